"""The calls of Storey and MLRun, as they are made."""

import datetime

import pandas as pd
import pytest
import v3io_frames as v3f

from tables import T, at, rows, text_of

PATH = 'proj/model-endpoints/events'


@pytest.fixture
def monitored(client):
    """Model endpoints with int, float and string metrics side by side, written one row at a time."""
    name = f'{PATH}-{id(client)}'
    for _ in range(2):
        client.create(
            'tsdb', name, if_exists=v3f.frames_pb2.IGNORE, rate='10/m', aggregates='count,avg', aggregation_granularity='1m'
        )
    for minute in range(4):
        for endpoint, app, kind in (('x', 'p', 'q'), ('x', 'r', 's'), ('y', 'p', 'q')):
            row = {
                'end_infer_time': at(f'{minute}m'),
                'endpoint_id': endpoint,
                'app': app,
                'name': kind,
                'a': 10 * minute,
                'b': minute / 4,
                'c': f'text {minute}',
            }
            df = pd.DataFrame([row])
            client.write('tsdb', name, df, index_cols=['end_infer_time', 'endpoint_id', 'app', 'name'])
    return name


LAST = datetime.datetime(2018, 7, 22, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize('filter', ["endpoint_id=='x'", "endpoint_id IN('x')", "endpoint_id IN('x', 'z')"])
def test_filters_need_no_blanks(client, monitored, filter):
    df = client.read('tsdb', monitored, columns=['a', 'b'], filter=filter, start='0', end='now')
    assert df.index.name == 'time'
    assert list(df.columns) == ['a', 'b', 'app', 'endpoint_id', 'name']
    assert set(df['endpoint_id']) == {'x'} and len(df) == 8


def test_sql_with_a_path_in_quotes_nested_groups_and_a_semicolon(client, monitored):
    query = f"SELECT a,b FROM '{monitored}' WHERE endpoint_id='x' AND ((app='p' AND name='q') OR (app='r' AND name='s'));"
    df = client.read('tsdb', query=query, start=T.isoformat(), end=LAST.isoformat())
    assert list(df.columns) == ['a', 'b', 'app', 'endpoint_id', 'name']
    assert sorted(set(df['app'])) == ['p', 'r'] and len(df) == 8
    everything = client.read('tsdb', query=f"SELECT * FROM '{monitored}' WHERE endpoint_id='y';", start='0', end='now')
    assert {'a', 'b', 'c'} < set(everything.columns) and len(everything) == 4
    narrow = f"SELECT a FROM '{monitored}' WHERE endpoint_id='x' AND ((app='p' AND name='s') OR (app='r'));"
    assert len(client.read('tsdb', query=narrow, start='0', end='now')) == 4


@pytest.mark.parametrize('function', ['last', 'max', 'count', 'avg'])
def test_functions_without_a_step(client, monitored, function):
    expected = {'last': 30, 'max': 30, 'count': 4, 'avg': 15}[function]
    request = dict(aggregators=function, start=str(T.value // 10**6), end='now')
    df = client.read('tsdb', monitored, columns=['a'], step=None, aggregation_window=None, **request)
    assert rows(df[[f'{function}(a)']]) == [(T, expected)] * 3
    df = client.read('tsdb', monitored, columns=['a'], group_by='endpoint_id', **request)
    expected = {'last': 30, 'max': 30, 'count': 8, 'avg': 15}[function]
    assert list(df.columns) == [f'{function}(a)', 'endpoint_id']
    assert df[df['endpoint_id'] == 'x'][f'{function}(a)'].tolist() == [expected]
    everything = client.read('tsdb', monitored, group_by='endpoint_id', **request)
    assert set(everything.columns) == {*(f'{function}({name})' for name in 'abc'), 'endpoint_id'}


def test_averages_of_five_minutes(client, monitored):
    df = client.read('tsdb', monitored, columns=['a'], aggregators='avg', step='5m', start=T.isoformat(), end='now')
    assert rows(df[['avg(a)']]) == [(T, 15.0)] * 3


def test_starts_as_they_are_given(client, monitored):
    assert len(client.read('tsdb', monitored, start='0', end='now')) == 12
    assert len(client.read('tsdb', monitored, start='now-24h', end='now')) == 0
    assert len(client.read('tsdb', monitored, start=T.isoformat(), end='now')) == 12


def test_raw_frames_have_one_label_set_each(client, monitored):
    frames = list(client.read('tsdb', monitored, get_raw=True, start='0', end='now'))
    assert len(frames) == 3
    for frame in frames:
        assert [len(frame.column_data(name)) for name in 'abc'] == [4, 4, 4]
        assert set(frame.labels()) == {'endpoint_id', 'app', 'name'}
        assert not frame.is_null(0, 'a')


def test_a_missing_table(client, protocol):
    for request in ({'table': 'proj/nosuch'}, {'query': "SELECT a FROM 'proj/nosuch';"}):
        with pytest.raises(v3f.WriteError if protocol == 'grpc' else v3f.ReadError) as caught:
            client.read('tsdb', start='0', end='now', **request)
        assert 'No TSDB schema file found' in text_of(caught.value)
    with pytest.raises(v3f.DeleteError):
        client.delete('tsdb', 'proj/nosuch')
