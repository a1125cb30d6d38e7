"""What the client and the server have to agree on before any data: versions, addresses, credentials, pandas."""

import json
import subprocess
import sys
import warnings

import pandas as pd
import pytest
import requests
import v3io_frames as v3f

from tables import T, Table, at, rows, samples, times


def test_the_client_warns_of_nothing(address, client, table):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        v3f.Client(address, container='interop')
        table.write(samples(time=['0m'], cpu=[1.5]))
        table.read(columns=['cpu'])
    # Pandas may announce changes to its callers; what the client says of the server is a UserWarning.
    assert [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)] == []


def test_a_program_of_its_own_prints_nothing_on_its_error_output(address):
    program = f"import v3io_frames as v3f; v3f.Client('{address}', container='users'); print('connected')"
    ended = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.stderr) == ('connected\n', '')


def test_credentials_are_accepted_where_none_are_configured(address):
    for credentials in ({'user': 'iguazio', 'password': 'secret'}, {'token': 'secret'}):
        client = v3f.Client(address, container='interop', **credentials)
        client.create('tsdb', 'credentials', rate='1/m', if_exists=v3f.IGNORE)
        assert client.read('tsdb', 'credentials').empty


def test_an_address_with_a_slash_and_kept_connections_work(protocol, address):
    if protocol == 'grpc':
        pytest.skip('HTTP only')
    for client in (v3f.Client(address + '/', container='slash'), v3f.Client(address, container='slash', persist_connection=True)):
        client.create('tsdb', 't', rate='1/m', if_exists=v3f.IGNORE)
        client.write('tsdb', 't', samples(time=['0m'], cpu=[1]))
        for _ in range(5):
            assert rows(client.read('tsdb', 't', columns=['cpu'], start='0')) == [(T, 1)]


def test_many_clients_one_after_the_other_all_get_through(address):
    for _ in range(30):
        v3f.Client(address, container='interop')


def test_datetimes_as_bounds_keep_their_fraction(table):
    table.write(samples(time=['0ms', '5ms', '500ms'], cpu=[1, 2, 3]))
    if table.is_grpc:
        return  # This half of the client takes texts only.
    for zone in ('UTC', 'Asia/Kolkata'):
        end = at('5ms').tz_convert(zone).to_pydatetime()
        assert table.read(columns=['cpu'], start=T.to_pydatetime(), end=end)['cpu'].tolist() == [1, 2]


def test_the_calls_of_monitoring_services_work_as_they_are_written(client):
    """Storey and MLRun: empty texts are unset, one row a write, the index under a name of its own."""
    path = 'pipelines/proj-1/model-endpoints/events/'
    for _ in range(2):
        client.create('tsdb', path, if_exists=v3f.IGNORE, rate='10/m', aggregates='', aggregation_granularity='')
    client.create('tsdb', 'storey', if_exists=v3f.IGNORE, rate='1/s', aggregates='count,avg', aggregation_granularity='1m')
    client.delete('tsdb', path)
    client.create('tsdb', path, if_exists=v3f.IGNORE, rate='10/m')
    for i in range(10):
        df = pd.DataFrame(
            {
                'end_infer_time': times(f'{i}m'),
                'endpoint_id': ['x' if i % 2 else 'y'],
                'application_name': ['app'],
                'result_value': [0.5 * i],
                'result_status': [i],
                'result_extra_data': [json.dumps({'i': i})],
            }
        )
        client.write('tsdb', path, df, index_cols=['end_infer_time', 'endpoint_id', 'application_name'])
    names = ['result_value', 'result_status', 'result_extra_data']
    df = client.read('tsdb', path, columns=names, filter="endpoint_id=='x'", start='0', end='now')
    assert df.index.name == 'time'
    assert list(df.columns) == [*names, 'application_name', 'endpoint_id']
    assert df['result_status'].tolist() == [1, 3, 5, 7, 9]
    assert df['result_extra_data'].tolist()[0] == '{"i": 1}'
    df = client.read('tsdb', path, columns=names, filter="endpoint_id IN('x', 'y')", start='0', end='now')
    assert len(df) == 10
    df = client.read('tsdb', path, columns=['result_value'], aggregators='last', start='0', end='now')
    assert sorted(df['last(result_value)'].tolist()) == [4.0, 4.5]
    df = client.read('tsdb', path, aggregators='count', start='0', end='now')
    assert {'count(result_value)', 'count(result_status)', 'count(result_extra_data)'} <= set(df.columns)
    df = client.read('tsdb', path, columns=['result_value'], aggregators='avg', step='5m', start=T.isoformat(), end='now')
    assert list(df.columns) == ['avg(result_value)', 'application_name', 'endpoint_id']
    assert sorted(set(df.index)) == [at('0m'), at('5m')]


def test_step_and_window_given_as_null_are_unset(table):
    table.write(samples(time=['0m', '1m'], cpu=[1, 2]))
    nulls = {} if table.is_grpc else {'step': None, 'aggregation_window': None}
    df = table.read(columns=['cpu'], aggregators='max', start=T.isoformat(), **nulls)
    assert df['max(cpu)'].tolist() == [2.0]


def test_the_server_answers_what_probes_ask(protocol, address):
    if protocol == 'grpc':
        pytest.skip('HTTP only')
    assert requests.get(address + '/_/status').json() == {'state': 'running'}
    assert requests.post(address + '/version', json={}).json()['version'].startswith('v' + v3f.__version__.rpartition('.')[0] + '.')


def test_this_client_sends_right_times_only_from_nanoseconds(missing):
    """Pandas 3 keeps microseconds unless told otherwise, and the client sends them as they are: no server can tell."""
    missing.create()
    micro = pd.DataFrame({'cpu': [1]}, index=times('0m').as_unit('us'))
    missing.write(micro)
    assert missing.read(columns=['cpu']).index.tolist() == [pd.Timestamp(T.value // 1000, tz='UTC')]
    missing.write(pd.DataFrame({'cpu': [2]}, index=micro.index.as_unit('ns')))
    assert rows(missing.read(columns=['cpu']))[-1] == (T, 2)
