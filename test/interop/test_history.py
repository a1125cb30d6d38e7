"""The history, read by the published client over both protocols."""

import time

import pandas as pd
import pytest
import v3io_frames as v3f

from tables import text_of

KNOWN = ['UserName', 'BackendName', 'TableName', 'ActionDuration', 'StartTime', 'ActionType', 'Container']


@pytest.fixture
def name(missing):
    return missing.name.replace('/', '-') + '.csv'


def call_each_verb(client, name):
    client.write('csv', name, pd.DataFrame({'a': [1, 2, 3]}))
    client.read('csv', name, columns=['a'], limit=2)
    client.execute('csv', name, 'ping', args={'rows': 3})
    client.delete('csv', name)
    client.create('csv', name)
    with pytest.raises(v3f.CreateError):
        client.create('csv', name)


def test_every_call_is_there_in_the_order_of_its_start(client, name):
    before = pd.Timestamp.now('UTC') - pd.Timedelta('1ms')
    call_each_verb(client, name)
    got = client.history(table=name)
    assert got['ActionType'].tolist() == ['write', 'read', 'execute', 'delete', 'create', 'create']
    assert set(KNOWN) <= set(got.columns)
    assert (got['BackendName'] == 'csv').all()
    assert (got['Container'] == 'interop').all()
    assert (got['StartTime'] > before).all()
    assert (got['ActionDuration'] >= 0).all()
    assert got['rows'].tolist()[:3] == [3, 2, 3]
    assert got['columns'][1] == 'a'
    assert got['limit'][1] == '2'
    assert got['command'][2] == 'ping'
    assert got['args_rows'][2] == 'ival:3'
    assert got['error'].notna().tolist() == [False] * 5 + [True]
    assert 'already exists' in got['error'][5]


def test_it_is_the_same_over_the_other_protocol(client, other_client, name, protocol):
    call_each_verb(client, name)
    pd.testing.assert_frame_equal(client.history(table=name), other_client.history(table=name))
    assert (client.history(table=name)['protocol'] == protocol).all()


def test_filters(client, name):
    call_each_verb(client, name)
    assert len(client.history(table=name, backend='csv')) == 6
    assert client.history(table=name, backend='tsdb').empty
    assert len(client.history(table=name, action='create')) == 2
    for action in ('write', 'ingest'):
        assert client.history(table=name, action=action)['ActionType'].tolist() == ['write']
    for action in ('read', 'query'):
        assert client.history(table=name, action=action)['ActionType'].tolist() == ['read']
    assert len(client.history(table=name, container='interop')) == 6
    assert client.history(table=name, container='other').empty
    assert client.history(table=name, user='nobody').empty
    assert client.history(table=name, min_duration=3_600_000).empty
    assert len(client.history(table=name, max_duration=3_600_000)) == 6


def test_times(client, name):
    client.execute('csv', name, 'ping')
    time.sleep(0.05)
    between = str(time.time_ns() // 1_000_000)
    time.sleep(0.05)
    client.create('csv', name)
    assert client.history(table=name, max_start_time=between)['ActionType'].tolist() == ['execute']
    assert client.history(table=name, min_start_time=between)['ActionType'].tolist() == ['create']
    assert client.history(table=name, max_start_time='now-1h').empty
    with pytest.raises(v3f.Error) as caught:
        client.history(min_start_time='yesterday')
    assert "failed to parse 'start_time' filter" in text_of(caught.value)


def test_users_are_named_and_secrets_are_not(address, client, name):
    other = v3f.Client(address, container='interop', user='ann', password='a-password-of-ann')
    other.write('csv', name, pd.DataFrame({'a': [1]}))
    other.read('csv', name, filter="a == 'a-password-of-ann'")
    got = client.history(table=name)
    assert got['UserName'].tolist() == ['ann', 'ann']
    assert got['filter'][1] == "a == '*****'"
    assert not got.astype(str).map(lambda text: 'a-password-of-ann' in text).any().any()


def test_calls_of_every_backend_are_there_with_what_was_set(client, missing):
    name = missing.name
    client.create('stream', name, shards=2, retention_hours=5)
    client.execute('stream', name, 'put', args={'data': '{"i":1}', 'partition_key': 'k'})
    client.read('stream', name, seek='seq', sequence=1, shard_id='0', max_rows_in_msg=7)
    client.write('nosql', name, pd.DataFrame({'a': [1]}, index=pd.Index(['x'], name='k')), condition='a > 1')
    client.create('tsdb', name, rate='1/s')
    client.delete('tsdb', name, start='0', end='now')
    with pytest.raises(v3f.Error):
        client.execute('nowhere', name, 'x')
    got = client.history(table=name)
    assert got['BackendName'].tolist() == ['stream', 'stream', 'stream', 'kv', 'tsdb', 'tsdb', 'nowhere']
    assert got['ActionType'].tolist() == ['create', 'execute', 'read', 'write', 'create', 'delete', 'execute']
    assert (got['shards'][0], got['retentionHours'][0]) == ('2', '5')
    assert (got['args_data'][1], got['args_partition_key'][1]) == ('sval:"{\\"i\\":1}"', 'sval:"k"')
    assert (got['seek'][2], got['sequence'][2], got['shardID'][2], got['messageLimit'][2]) == ('seq', '1', '0', '7')
    assert (got['condition'][3], got['saveMode'][3]) == ('a > 1', 'createNewItemsOnly')
    assert got['rate'][4] == '1/s'
    assert (got['start'][5], got['end'][5]) == ('0', 'now')
    assert 'unknown backend' in got['error'][6]
    assert len(client.history(table=name, backend='nosql')) == len(client.history(table=name, backend='kv')) == 1
