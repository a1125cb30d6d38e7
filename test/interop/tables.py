"""A table as the tests handle it: short calls, rows as plain Python values, errors as their text."""

import struct
from contextlib import contextmanager

import grpc
import pandas as pd
import requests
import v3io_frames as v3f
from v3io_frames import frames_pb2 as pb
from v3io_frames import frames_pb2_grpc
from v3io_frames.grpc import write_stream

T = pd.Timestamp('2018-07-21T21:40:00Z').as_unit('ns')


def at(offset):
    """A time by its distance from T: `at('-7d')`, `at('1m')`."""
    return T + pd.Timedelta(offset)


def times(*offsets, name='time'):
    return pd.DatetimeIndex([at(offset) for offset in offsets], name=name).as_unit('ns')


def rfc3339(time):
    return time.isoformat().replace('+00:00', 'Z')


def samples(**columns):
    """A frame of samples: `samples(time=['0m', '1m'], cpu=[10, 20])`."""
    offsets = columns.pop('time')
    return pd.DataFrame(columns, index=times(*offsets))


class Table:
    def __init__(self, client, name):
        self.client = client
        self.name = name
        self.is_grpc = isinstance(client, v3f.gRPCClient)

    def create(self, rate='1/s', **kw):
        self.client.create('tsdb', self.name, rate=rate, **kw)

    def write(self, df, **kw):
        return self.client.write('tsdb', self.name, df, **kw)

    def read(self, start='0', end='now', **kw):
        return self.client.read('tsdb', self.name, start=start, end=end, **kw)

    def raw(self, start='0', end='now', **kw):
        return list(self.client.read('tsdb', self.name, start=start, end=end, get_raw=True, **kw))

    def delete(self, **kw):
        self.client.delete('tsdb', self.name, **kw)

    def write_frame(self, frame):
        """Writes a message as it stands: what the client itself never sends, such as a NaN that is no null."""
        head = pb.InitialWriteRequest(session=self.client.session, backend='tsdb', table=self.name)
        if self.is_grpc:
            stub = frames_pb2_grpc.FramesStub(self.client._channel)
            stub.Write(write_stream(head, [frame]))
            return
        body = b''.join(struct.pack('<q', m.ByteSize()) + m.SerializeToString() for m in (head, frame))
        answer = requests.post(self.client.address + '/write', data=body)
        assert answer.ok, answer.text

    @contextmanager
    def refuses(self, verb, text):
        """The call inside fails with the exception of its verb, and with this text at the end of upstream's prefixes."""
        with pytest_raises(self.error_of(verb)) as caught:
            yield
        shown = text_of(caught.value)
        prefix = PREFIXES[verb]
        assert text in shown, shown
        assert shown.startswith(prefix), shown

    def error_of(self, verb):
        if verb == 'read':
            return v3f.WriteError if self.is_grpc else v3f.ReadError
        if verb == 'write':
            return v3f.WriteError if self.is_grpc else v3f.Error
        return {'create': v3f.CreateError, 'delete': v3f.DeleteError, 'execute': v3f.ExecuteError}[verb]


PREFIXES = {
    'create': 'error creating table: ',
    'delete': "can't delete: ",
    'execute': "can't exec: ",
    'read': "can't query: ",
    'write': ('backend Write failed: ', "can't add frame: ", "can't wait for completion: "),
}


def text_of(error):
    """The server's text in an exception of the client."""
    cause = getattr(error, 'cause', None)
    if cause is not None:
        return cause.details()
    return str(error).removeprefix('cannot call API - ').removeprefix('write error: ')


def code_of(error):
    """The status of a gRPC exception."""
    cause = getattr(error, 'cause', None)
    return None if cause is None else cause.code()


def pytest_raises(kind):
    import pytest

    return pytest.raises(kind)


def rows(df):
    """The rows as tuples of plain values, the time first; None for what is missing."""
    columns = [df[name].tolist() for name in df.columns]
    index = [df.index.get_level_values(i).tolist() for i in range(df.index.nlevels)]
    return [tuple(None if pd.isna(value) else value for value in row) for row in zip(*index, *columns)]


NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS
