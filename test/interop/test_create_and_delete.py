"""Creating, deleting and executing: what is accepted, and the texts of what is refused."""

import pandas as pd
import pytest
import v3io_frames as v3f

from tables import ALREADY_EXISTS, NOT_FOUND, T, at, code_of, iso, ms, rows, samples

SCHEMA = 'failed to create a TSDB schema: '
DIVISOR = SCHEMA + 'the aggregation granularity should be a divisor or a dividend of 1 day'


@pytest.mark.parametrize('rate', ['1/s', '1/m', '10/m', '66/m', '1/h', '2001/h', '4000/h'])
def test_a_rate_is_samples_per_second_minute_or_hour(missing, rate):
    missing.create(rate=rate)
    missing.write(samples(time=['0m'], cpu=[1]))
    assert rows(missing.read(columns=['cpu'])) == [(T, 1)]


@pytest.mark.parametrize(
    'rate, text',
    [
        ('', "Must specify 'rate' attribute to specify maximum sample rate, e.g. '1/m'"),
        ('1', SCHEMA + 'Invalid samples ingestion rate (1).: Invalid samples ingestion rate. The rate must be of the format'),
        ('1/d', SCHEMA + 'Invalid samples ingestion rate (1/d).: Invalid samples ingestion rate. The rate must be of the format'),
        ('1.5/s', SCHEMA + 'Invalid samples ingestion rate (1.5/s).: Invalid samples ingestion rate. The rate must be of the format'),
        ('0/s', SCHEMA + 'Invalid samples ingestion rate (0/s).: invalid samples ingestion rate (0). The rate cannot have a negative number of samples'),
        ('-1/m', SCHEMA + 'Invalid samples ingestion rate (-1/m).: invalid samples ingestion rate (-1). The rate cannot have a negative number of samples'),
        ('67/m', SCHEMA + 'Failed to calculate the chunk interval.: the samples ingestion rate (4020/h) is too high'),
        ('2/s', SCHEMA + 'Failed to calculate the chunk interval.: the samples ingestion rate (7200/h) is too high'),
    ],
)
def test_a_bad_rate_is_refused(missing, rate, text):
    with missing.refuses('create', text):
        missing.create(rate=rate)


def test_a_rate_is_required(missing):
    with missing.refuses('create', "Must specify 'rate' attribute"):
        missing.client.create('tsdb', missing.name)


@pytest.mark.parametrize('granularity', ['', '10m', '15m', '30m', '1h', '2h', '1d', '2d'])
def test_pre_aggregates_are_accepted(missing, granularity):
    missing.create(aggregates='count,avg, stddev', aggregation_granularity=granularity)


@pytest.mark.parametrize(
    'options, text',
    [
        ({'aggregates': 'sum,nosuch'}, SCHEMA + "Failed to parse aggregates list 'sum,nosuch'.: invalid aggragate type: nosuch"),
        ({'aggregation_granularity': '7m'}, DIVISOR),
        ({'aggregation_granularity': '36h'}, DIVISOR),
        ({'aggregation_granularity': '0m'}, DIVISOR),
        ({'aggregation_granularity': '1w'}, SCHEMA + "Failed to parse aggregation granularity '1w'.: invalid duration. Accepted pattern: [0-9]+[mhd]."),
        ({'rate': '1/h', 'aggregates': '*'}, SCHEMA + "the size of the aggregation-granularity interval isn't sufficiently larger"),
    ],
)
def test_bad_pre_aggregates_are_refused(missing, options, text):
    with missing.refuses('create', text):
        missing.create(**options)


def test_a_table_exists_once(table):
    with table.refuses('create', f"A TSDB table already exists at path '{table.name}'"):
        table.create()
    if table.is_grpc:
        with pytest.raises(v3f.CreateError) as caught:
            table.create()
        assert code_of(caught.value) == ALREADY_EXISTS


def test_if_exists_ignore_leaves_the_table_as_it_is_and_still_checks(table):
    table.write(samples(time=['0m'], cpu=[1]))
    table.create(if_exists=v3f.IGNORE)
    table.create(rate='1/h', if_exists=v3f.IGNORE, aggregates='', aggregation_granularity='')
    assert rows(table.read(columns=['cpu'])) == [(T, 1)]
    with table.refuses('create', 'is too high'):
        table.create(rate='2/s', if_exists=v3f.IGNORE)


def test_tables_of_two_containers_and_of_nested_paths_are_apart(table, address):
    table.write(samples(time=['0m'], cpu=[1]))
    elsewhere = v3f.Client(address, container='elsewhere')
    with pytest.raises((v3f.ReadError, v3f.WriteError), match='No TSDB schema file found'):
        elsewhere.read('tsdb', table.name, start='0')
    table.client.create('tsdb', table.name + '/inner', rate='1/m')
    assert table.client.read('tsdb', table.name + '/inner', start='0').empty
    # Slashes around a path and doubled ones name the same table.
    assert rows(table.client.read('tsdb', '/' + table.name + '/', columns=['cpu'], start='0')) == [(T, 1)]


def test_a_deleted_table_is_gone_and_can_be_made_again(table):
    table.write(samples(time=['0m'], cpu=[1]))
    table.delete()
    with table.refuses('read', 'No TSDB schema file found'):
        table.read()
    with table.refuses('write', 'No TSDB schema file found'):
        table.write(samples(time=['0m'], cpu=[1]))
    table.create()
    assert table.read().empty
    # Its series have no type yet.
    table.write(samples(time=['0m'], cpu=['text']))
    assert rows(table.read(columns=['cpu'])) == [(T, 'text')]


@pytest.fixture
def ten(table):
    """Ten minutes of cpu and disk for the nodes a and b."""
    for node in 'ab':
        offsets = [f'{minute}m' for minute in range(10)]
        table.write(samples(time=offsets, cpu=list(range(10)), disk=[0.5] * 10), labels={'node': node})
    return table


def left(table):
    """Node → how many samples of cpu and of disk there are."""
    df = table.read(aggregators='count', columns=['cpu', 'disk'])
    return {row[-1]: row[1:3] for row in rows(df)}


@pytest.mark.parametrize(
    'part, expected',
    [
        ({'start': ms(at('2m')), 'end': ms(at('4m'))}, {'a': (7, 7), 'b': (7, 7)}),
        ({'start': iso(at('2m')), 'end': iso(at('4m')), 'filter': "node == 'a'"}, {'a': (7, 7), 'b': (10, 10)}),
        ({'start': '0', 'metrics': ['cpu']}, {'a': (None, 10), 'b': (None, 10)}),
        ({'end': iso(at('7m')), 'metrics': ['cpu', 'nosuch']}, {'a': (2, 10), 'b': (2, 10)}),
        ({'start': iso(at('8m'))}, {'a': (8, 8), 'b': (8, 8)}),
        ({'start': '0', 'end': 'now', 'filter': "_name == 'disk' and node == 'b'"}, {'a': (10, 10), 'b': (10, None)}),
        ({'start': '0', 'end': 'now'}, {}),
        ({'filter': "node == 'a'"}, {'a': (10, 10), 'b': (10, 10)}),
        ({'metrics': ['cpu']}, {'a': (10, 10), 'b': (10, 10)}),
        ({'start': iso(at('1h')), 'end': iso(T)}, {'a': (10, 10), 'b': (10, 10)}),
        ({'start': '0', 'filter': "node == 'nosuch'"}, {'a': (10, 10), 'b': (10, 10)}),
    ],
)
def test_deletes_are_exact_to_the_sample(ten, part, expected):
    ten.delete(**part)
    assert left(ten) == expected
    ten.write(samples(time=['2m', '3m'], cpu=[7, 8], disk=[1.5, 1.5]), labels={'node': 'c'})
    assert left(ten) == {**expected, 'c': (2, 2)}


def test_only_metrics_delete_the_last_hour(table):
    now = pd.Timestamp.now(tz='UTC').floor('s')
    index = pd.DatetimeIndex([now - pd.Timedelta('90m'), now - pd.Timedelta('30m')], name='time').as_unit('ns')
    table.write(pd.DataFrame({'cpu': [1, 2], 'disk': [3, 4]}, index=index))
    table.delete(metrics=['cpu'])
    assert rows(table.read(columns=['cpu', 'disk'])) == [(index[0], 1, 3), (index[1], None, 4)]


def test_a_missing_table_is_an_error_unless_ignored(missing):
    with missing.refuses('delete', 'No TSDB schema file found'):
        missing.delete()
    missing.delete(if_missing=v3f.IGNORE)
    with missing.refuses('read', "failed to create adapter: No TSDB schema file found at '"):
        missing.read()
    with missing.refuses('read', 'No TSDB schema file found'):
        missing.read(aggregators='count', step='1m')
    with missing.refuses('write', "failed to create adapter: No TSDB schema file found at '"):
        missing.write(samples(time=['0m'], cpu=[1]))
    if missing.is_grpc:
        with pytest.raises(v3f.WriteError) as caught:
            missing.read()
        assert code_of(caught.value) == NOT_FOUND


def test_reading_as_an_iterator_raises_when_it_is_read(missing):
    import grpc

    kind = grpc.RpcError if missing.is_grpc else v3f.ReadError
    with pytest.raises(kind, match='No TSDB schema file found'):
        list(missing.read(iterator=True))
    with pytest.raises(kind, match='No TSDB schema file found'):
        missing.raw()


def test_flush_and_compact_change_no_answer_and_stats_give_a_row(table):
    for i in range(12):
        table.write(samples(time=[f'{i}m', '20m'], cpu=[i, i], mem=[1.5 * i, None]))
    before = table.read(columns=['cpu', 'mem'])
    for command in ('flush', 'compact'):
        answer = table.client.execute('tsdb', table.name, command)
        assert answer is None or answer.empty
        assert table.read(columns=['cpu', 'mem']).equals(before)
    assert len(table.client.execute('tsdb', table.name, 'stats')) >= 1
    with table.refuses('execute', "TSDB backend doesn't support the 'execute' command"):
        table.client.execute('tsdb', table.name, 'nosuch')
    with table.refuses('execute', 'compact, flush, labels, label_values, series, stats'):
        table.client.execute('tsdb', table.name, 'nosuch')
