"""Streams: records in and out through the published client, over both protocols."""

import itertools
import json
import pathlib
import re
import struct
import threading
import time

import pandas as pd
import pytest
import requests
import v3io_frames as v3f
from v3io_frames import frames_pb2 as pb

from tables import NOT_FOUND, T, Table, at, code_of, text_of, times

numbers = itertools.count(1)


class Stream(Table):
    """As Table, for streams."""

    def create(self, **kw):
        self.client.create('stream', self.name, **kw)

    def write(self, df, **kw):
        return self.client.write('stream', self.name, df, **kw)

    def put(self, data, **args):
        return self.client.execute('stream', self.name, 'put', args={'data': data, **args})

    def command(self, name, **args):
        return self.client.execute('stream', self.name, name, args=args)

    def read(self, seek='earliest', shard_id='0', **kw):
        return self.client.read('stream', self.name, seek=seek, shard_id=shard_id, **kw)

    def raw(self, seek='earliest', shard_id='0', **kw):
        return list(self.client.read('stream', self.name, seek=seek, shard_id=shard_id, get_raw=True, **kw))

    def delete(self, **kw):
        self.client.delete('stream', self.name, **kw)


@pytest.fixture
def absent(client, request):
    name = re.sub(r'\W+', '-', request.node.name)
    return Stream(client, f'streams/{name}{next(numbers)}')


@pytest.fixture
def stream(absent):
    absent.create()
    return absent


def cells(df, name):
    return [None if pd.isna(value) else value for value in df[name].tolist()]


def test_the_example(stream):
    stream.put('{"cpu":1,"s":"a"}')
    stream.put('hello')
    df = stream.read()
    assert sorted(df.columns) == ['cpu', 'raw_data', 's', 'stream_time']
    assert df.index.name == 'seq_number'
    assert df.index.tolist() == [1, 2]
    assert cells(df, 'cpu') == [1, None]
    assert cells(df, 's') == ['a', None]
    assert cells(df, 'raw_data') == [None, 'hello']
    assert df['stream_time'].notna().all()


def test_a_data_frame_comes_back_in_its_types(stream):
    df = pd.DataFrame(
        {
            'i': [1, 2, 3],
            'f': [0.5, None, 2.0],
            's': ['a', None, 'ü'],
            'b': [True, False, True],
            't': times('0s', '1s', '2s'),
        },
        index=pd.Index([10, 20, 30], name='key'),
    )
    stream.write(df)
    back = stream.read()
    assert sorted(back.columns) == ['b', 'f', 'i', 'key', 's', 'stream_time', 't']
    assert back['i'].dtype == 'int64' and back['i'].tolist() == [1, 2, 3]
    assert back['b'].dtype == 'bool' and back['b'].tolist() == [True, False, True]
    assert back['key'].tolist() == [10, 20, 30]
    assert cells(back, 'f') == [0.5, None, 2.0]
    assert cells(back, 's') == ['a', None, 'ü']
    assert [value.tz_localize(None) for value in back['t']] == [at(f'{i}s').tz_localize(None) for i in range(3)]


def test_an_unnamed_index_of_times(stream):
    stream.write(pd.DataFrame({'cpu': [0.5], 'mem': [2.0]}, index=[T]))
    frame = stream.raw()[0].raw_frame
    assert [column.name for column in frame.columns] == ['cpu', 'idx', 'mem', 'stream_time']
    assert [index.name for index in frame.indices] == ['seq_number']
    assert frame.columns[1].times[0] == T.value
    assert frame.labels['last_seq'].ival == 1
    assert 'next_marker' not in frame.labels


def test_many_frames_and_message_limit(stream):
    stream.write([pd.DataFrame({'i': range(1000 * n, 1000 * n + 1000)}) for n in range(5)])
    df = stream.read()
    assert df['i'].tolist() == list(range(5000))
    assert df.index.tolist() == list(range(1, 5001))
    frames = stream.raw(max_rows_in_msg=1024)
    assert [len(frame.raw_frame.indices[0].ints) for frame in frames] == [1024, 1024, 1024, 1024, 904]
    assert frames[1].raw_frame.labels['last_seq'].ival == 2048


def test_seek_by_sequence_time_and_end(stream):
    for i in range(4):
        stream.put(f'{{"i":{i}}}')
    assert stream.read(seek='seq', sequence=3)['i'].tolist() == [2, 3]
    assert stream.read(seek='sequence', sequence=5).empty
    assert stream.read(seek='latest').empty
    assert stream.read(seek='time', start='now-1h')['i'].tolist() == [0, 1, 2, 3]
    assert stream.read(seek='TIME', start='0', end='now-1h').empty
    for sequence in (0, 6, -1):
        with stream.refuses('read', 'Error in Seek operation - '):
            stream.read(seek='seq', sequence=sequence)


def test_limit_and_marker(stream):
    stream.write(pd.DataFrame({'i': range(10)}))
    marker, found = '', []
    while True:
        frames = stream.raw(limit=4, marker=marker)
        found += [value for frame in frames for value in frame.raw_frame.columns[0].ints]
        marker = frames[-1].raw_frame.labels['next_marker'].sval if 'next_marker' in frames[-1].raw_frame.labels else ''
        if marker == '':
            break
    assert found == list(range(10))


def test_columns_and_filter(stream):
    stream.write(pd.DataFrame({'i': range(10), 'j': range(10)}))
    df = stream.read(columns=['j', 'nope'])
    assert df.columns.tolist() == ['j', 'nope']
    assert df['j'].tolist() == list(range(10))
    assert df['nope'].isna().all()
    assert stream.read(filter='i > 7', columns=['i'])['i'].tolist() == [8, 9]


def test_mixed_and_nested_members(stream):
    stream.put('{"n":1,"o":{"a":[1,2]},"m":true}')
    stream.put('{"n":2.5,"m":"x"}')
    df = stream.read()
    assert df['n'].tolist() == [1.0, 2.5]
    assert cells(df, 'o') == ['{"a":[1,2]}', None]
    assert cells(df, 'm') == ['true', 'x']


@pytest.mark.parametrize('data', ['', 'null', '[1]', '"x"'])
def test_what_is_no_object_is_raw(stream, data):
    stream.put(data)
    assert stream.read()['raw_data'].tolist() == [data]


def test_keys_and_places(absent):
    absent.create(shards=4, retention_hours=48)
    places = [absent.put('x', partition='k'), absent.put('x', partition_key='k'), absent.put('x', partition_key='k', client_info='c')]
    assert len({place['shard_id'].tolist()[0] for place in places}) == 1
    assert [place['seq_number'].tolist()[0] for place in places] == [1, 2, 3]
    absent.command('put_many', data='["a", {"i": 1}, 2]')
    shards = absent.command('describe')
    assert shards['shard_id'].tolist() == [0, 1, 2, 3]
    assert shards['record_count'].sum() == 6
    assert set(shards['retention_hours']) == {48}
    df = absent.client.read('stream', absent.name, seek='earliest')
    assert len(df) == 6
    assert df.index.nlevels == 2
    assert df.index.is_unique


def test_consumer_groups(stream):
    stream.write(pd.DataFrame({'i': range(5)}))
    stream.command('commit', group='g', shard_id='0', sequence=3)
    offsets = stream.command('offsets', group='g')
    assert offsets['sequence'].tolist() == [3]
    assert offsets['lag'].tolist() == [2]


def test_streams_are_made_and_deleted(absent):
    with pytest.raises(absent.error_of('read')) as caught:
        absent.read()
    assert text_of(caught.value).startswith("can't query: Error in Seek operation - no stream at ")
    assert code_of(caught.value) in (None, NOT_FOUND)
    with absent.refuses('write', 'no stream at'):
        absent.write(pd.DataFrame({'i': [1]}))
    absent.delete(if_missing=v3f.frames_pb2.IGNORE)
    with absent.refuses('delete', 'no stream at'):
        absent.delete()
    absent.create()
    with absent.refuses('create', 'already exists'):
        absent.create()
    absent.create(if_exists=v3f.frames_pb2.IGNORE)
    absent.put('x')
    absent.delete()
    absent.create()
    assert absent.read().empty
    absent.put('y')
    assert absent.read().index.tolist() == [1]


def test_refusals(stream):
    with stream.refuses('create', "'shards' must be a positive integer (got -1)"):
        Stream(stream.client, 'streams/refused').create(shards=-1)
    with stream.refuses('create', "'retention_hours' must be a positive integer (got -1)"):
        Stream(stream.client, 'streams/refused').create(retention_hours=-1)
    with stream.refuses('execute', "streaming backend doesn't support execute command 'pop'"):
        stream.command('pop')
    with stream.refuses('execute', "missing a required parameter - 'table' (stream name) and/or 'data' argument"):
        stream.command('put')
    with stream.refuses('read', 'missing essential parameters, need: table, seek, shard parameters'):
        stream.read(seek='')
    with stream.refuses('read', 'Stream seek type soon is invalid'):
        stream.read(seek='soon')
    for shard_id in ('1', '-1', 'x'):
        with stream.refuses('read', 'Error in Seek operation - '):
            stream.read(shard_id=shard_id)
    with stream.refuses('write', 'PartitionKeys cannot be used as an argument to a WriteRequest to stream backend'):
        stream.write(pd.DataFrame({'i': [1]}), partition_keys=['i'])


def test_following_over_http(stream):
    if stream.is_grpc:
        pytest.skip('gRPC has no field for it')
    body = {
        'session': {'container': stream.client.session.container},
        'backend': 'stream',
        'table': stream.name,
        'seek': 'latest',
        'shard_id': '0',
        'follow': 2,
    }
    start = time.monotonic()
    with requests.post(stream.client.address + '/read', json=body, stream=True) as answer:
        stream.put('{"i":1}')
        assert len(answer.raw.read(8)) == 8
        stream.put('{"i":2}')
        rest = answer.raw.read()
    assert b'stream_time' in rest
    assert time.monotonic() - start >= 2


def test_numbers_and_texts_of_json_keep_their_values(stream):
    stream.put('{"big":9223372036854775807,"bigger":9223372036854775808,"t":"2018-01-01T00:00:00Z","z":null}')
    stream.put('{"big":-9223372036854775808}')
    df = stream.read()
    assert df['big'].tolist() == [2**63 - 1, -(2**63)]
    assert df['bigger'].dtype == 'float64' and df['bigger'][1] == 2.0**63
    assert cells(df, 't') == ['2018-01-01T00:00:00Z', None]
    assert 'z' not in df.columns


def test_floats_that_json_has_not_are_exact(stream):
    stream.write(pd.DataFrame({'f': [float('inf'), float('-inf'), 5e-324, -0.0]}))
    assert [str(value) for value in stream.read()['f']] == ['inf', '-inf', '5e-324', '-0.0']


def test_unnamed_and_repeated_names(stream):
    index = pd.MultiIndex.from_tuples([(1, 2)], names=[None, 'second'])
    stream.write(pd.DataFrame({'x': [1]}, index=index))
    frame = stream.raw()[0].raw_frame
    assert [column.name for column in frame.columns] == ['idx', 'second', 'x', 'stream_time']
    with stream.refuses('write', 'row iteration error: duplicate name in columns and indices - "x"'):
        stream.write(pd.DataFrame({'x': [1]}, index=pd.Index([2], name='x')))
    assert len(stream.read()) == 1


def test_write_parameters_of_other_backends_are_refused(stream):
    df = pd.DataFrame({'i': [1]})
    for kw in ({'expression': 'i = 1'}, {'condition': 'i > 1'}, {'save_mode': 'updateItem'}):
        with stream.refuses('write', 'cannot be used as an argument to a WriteRequest to stream backend'):
            stream.write(df, **kw)
    assert stream.read().empty


def test_deletes_take_no_range(stream):
    for kw in ({'start': '0'}, {'end': 'now'}, {'metrics': ['i']}):
        with stream.refuses('delete', 'cannot be used as an argument to a DeleteRequest to stream backend'):
            stream.delete(**kw)
    stream.delete(filter='i > 1')
    with stream.refuses('delete', 'no stream at'):
        stream.delete()


def test_shards_are_added_and_keys_keep_their_order(absent):
    absent.create(shards=2)
    keys = [f'key-{i % 20}' for i in range(200)]
    for i, key in enumerate(keys[:100]):
        absent.put(json.dumps({'k': key, 'i': i}), partition_key=key)
    absent.command('add_shards', shards=5)
    for i, key in enumerate(keys[100:]):
        absent.put(json.dumps({'k': key, 'i': 100 + i}), partition_key=key)
    assert absent.command('describe')['shard_id'].tolist() == [0, 1, 2, 3, 4]
    df = absent.client.read('stream', absent.name, seek='earliest')
    assert sorted(df['i']) == list(range(200))
    for _, own in df.groupby('k'):
        assert own['i'].is_monotonic_increasing


QUAKES = pathlib.Path(__file__).parents[2] / 'node_modules/vega-datasets/data/earthquakes.json'


def quakes():
    """A week of earthquakes, in the order in which they happened."""
    features = sorted(json.loads(QUAKES.read_text())['features'], key=lambda quake: quake['properties']['time'])
    properties = [quake['properties'] for quake in features]
    df = pd.DataFrame(
        {
            'id': [quake['id'] for quake in features],
            'net': [one['net'] for one in properties],
            'mag': [float(one['mag']) for one in properties],
            'place': [one['place'] for one in properties],
            'felt': [one['felt'] for one in properties],
        }
    )
    df.index = pd.DatetimeIndex([one['time'] * 1_000_000 for one in properties], tz='UTC', name='time').as_unit('ns')
    return df


def follow(address, body, wanted, found):
    """Collects the values of the column `id` as frames come, until there are enough."""
    with requests.post(address + '/read', json=body, stream=True) as answer:
        while len(found) < wanted:
            head = answer.raw.read(8)
            if len(head) < 8:
                return
            frame = pb.Frame.FromString(answer.raw.read(struct.unpack('<q', head)[0]))
            found += next(column for column in frame.columns if column.name == 'id').strings


def test_earthquakes_are_written_followed_and_read_by_time(absent, protocol, client, other_client):
    df = quakes()
    absent.create(shards=4)
    http = other_client if protocol == 'grpc' else client
    body = {
        'session': {'container': client.session.container},
        'backend': 'stream',
        'table': absent.name,
        'seek': 'earliest',
        'follow': 20,
    }
    followed = []
    follower = threading.Thread(target=follow, args=(http.address, body, len(df), followed))
    follower.start()
    parts = [part for _, part in df.groupby(df.index.floor('D'))]
    for part in parts[:-1]:
        absent.write(part)
    # Reads by time begin at whole seconds.
    time.sleep(1 - time.time() % 1)
    start = pd.Timestamp.now('UTC').floor('s')
    absent.write(parts[-1])
    follower.join(30)
    assert sorted(followed) == sorted(df['id'])

    last = absent.client.read('stream', absent.name, seek='time', start=start.isoformat())
    assert sorted(last['id']) == sorted(parts[-1]['id'])
    assert (last['stream_time'] >= start).all()
    back = absent.client.read('stream', absent.name, seek='earliest').set_index('id').loc[df['id']]
    assert back['mag'].tolist() == df['mag'].tolist()
    assert back['place'].tolist() == df['place'].tolist()
    assert cells(back, 'felt') == cells(df, 'felt')
    assert back['time'].tolist() == df.index.tolist()
    strong = absent.client.read('stream', absent.name, seek='earliest', filter='mag >= 5.5')
    assert sorted(strong['id']) == sorted(df['id'][df['mag'] >= 5.5])
