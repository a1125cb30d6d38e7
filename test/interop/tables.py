"""A table as the tests handle it: short calls, rows as plain Python values, errors as their text."""

import struct
from contextlib import contextmanager

import grpc
import pandas as pd
import pytest
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


def iso(time):
    return time.isoformat()


def ms(time):
    """A time as the text of its milliseconds."""
    return str(time.value // 1_000_000)


def samples(**columns):
    """A frame of samples: `samples(time=['0m', '1m'], cpu=[10, 20])`."""
    offsets = columns.pop('time')
    return pd.DataFrame(columns, index=times(*offsets))


class Table:
    def __init__(self, client, name):
        self.client = client
        self.name = name
        self.is_grpc = isinstance(client, v3f.gRPCClient)

    def create(self, rate='1/s', duplicates=None, **kw):
        """duplicates: the table's policy for samples of one series and time."""
        if duplicates is None:
            self.client.create('tsdb', self.name, rate=rate, **kw)
        elif self.is_grpc:
            field = v3f.SchemaField(name='options', properties={'duplicates': duplicates})
            self.client.create('tsdb', self.name, schema=v3f.Schema(fields=[field]), rate=rate, **kw)
        else:
            # The client's HTTP half cannot turn properties into JSON with this version of protobuf.
            schema = {'fields': [{'name': 'options', 'properties': {'duplicates': duplicates}}]}
            session = {'container': self.client.session.container}
            request = {'session': session, 'backend': 'tsdb', 'table': self.name, 'schema': schema, 'rate': rate}
            answer = requests.post(self.client.address + '/create', json=request)
            if not answer.ok:
                raise v3f.CreateError(answer.text)

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
            try:
                stub.Write(write_stream(head, [frame]))
            except grpc.RpcError as cause:
                error = v3f.WriteError(str(cause))
                error.cause = cause
                raise error from cause
            return
        body = b''.join(struct.pack('<q', m.ByteSize()) + m.SerializeToString() for m in (head, frame))
        answer = requests.post(self.client.address + '/write', data=body)
        if not answer.ok:
            raise v3f.Error(answer.text)

    @contextmanager
    def refuses(self, verb, text):
        """The call inside fails with the exception of its verb; the prefix of its layer and this text are in it."""
        with pytest.raises(self.error_of(verb)) as caught:
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


def is_null(frame, row, column):
    """What RawFrame.is_null is meant to say; it fails on the first row that has a null."""
    null_values = frame.raw_frame.null_values
    return len(null_values) > 0 and column in null_values[row].nullColumns


def rows(df):
    """The rows as tuples of plain values, the time first; None for what is missing."""
    columns = [df[name].tolist() for name in df.columns]
    index = [df.index.get_level_values(i).tolist() for i in range(df.index.nlevels)]
    return [tuple(None if pd.isna(value) else value for value in row) for row in zip(*index, *columns)]


NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS
