"""What is refused: the client's exception, upstream's text, and nothing of the refused frame stored."""

import pandas as pd
import pytest
import v3io_frames as v3f
from v3io_frames import frames_pb2 as pb

from tables import INVALID_ARGUMENT, T, at, code_of, iso, rows, samples, text_of, times

BAD_NAME = "should conform to '^[a-zA-Z_:]([a-zA-Z0-9_:])*$'"
BAD_LABEL = "should conform to '^[a-zA-Z_]([a-zA-Z0-9_])*$'"


@pytest.mark.parametrize('name', ['cpu-load', 'cpu.load', 'cpu load', '0cpu', 'cpu(x)', 'prühtzahl'])
def test_a_bad_metric_name_is_refused(table, name):
    with table.refuses('write', f"failed to Add: metric name contains illegal characters. Name '{name}' {BAD_NAME}"):
        table.write(samples(time=['0m'], good=[1], **{name: [1]}))
    assert table.read().empty


def test_an_empty_metric_name_is_refused(table):
    with table.refuses('write', 'failed to Add: metric name should not be empty'):
        table.write(samples(time=['0m'], **{'': [1]}))


@pytest.mark.parametrize('name', ['ns:cpu', '_cpu', 'CPU_1', ':x'])
def test_metric_names_of_letters_digits_underscores_and_colons_are_kept(table, name):
    table.write(samples(time=['0m'], **{name: [1]}))
    assert rows(table.read(columns=[name])) == [(T, 1)]


@pytest.mark.parametrize('name', ['no-de', 'no.de', 'no:de', '1node'])
def test_a_bad_label_name_is_refused(table, name):
    text = f"failed to Add: label name contains illegal characters. Label name '{name}' {BAD_LABEL}"
    with table.refuses('write', text):
        table.write(samples(time=['0m'], cpu=[1]), labels={name: 'x'})
    df = samples(time=['0m'], cpu=[1])
    df[name] = 'x'
    with table.refuses('write', text):
        table.write(df.set_index(name, append=True))


@pytest.mark.parametrize('name', ['_name', '_lset', '_enc', '_maxtime'])
def test_reserved_label_names_are_refused(table, name):
    with table.refuses('write', 'failed to Add: '):
        table.write(samples(time=['0m'], cpu=[1]), labels={name: 'x'})


def out_of_range(time):
    return (
        f"failed to Add: time '{time.value // 10**6}' doesn't seem to be a valid Unix timesamp in milliseconds. "
        'The time must be in the years range 1970-2400'
    )


@pytest.mark.parametrize('time', ['1969-12-31T23:59:59.999999999Z', '1960-01-01T00:00:00Z'])
def test_times_before_1970_are_refused(table, time):
    early = pd.Timestamp(time)
    index = pd.DatetimeIndex([T, early], name='time').as_unit('ns')
    with table.refuses('write', out_of_range(early)):
        table.write(pd.DataFrame({'cpu': [1, 2]}, index=index))
    with table.refuses('write', 'row 1'):
        table.write(pd.DataFrame({'cpu': [1, 2]}, index=index))
    assert table.read().empty


def test_times_after_2400_do_not_fit_the_clients_nanoseconds(table):
    # 2262 is the last year that an int64 of nanoseconds reaches, so this limit cannot be met by this client.
    last = pd.Timestamp.max.tz_localize('UTC').floor('s')
    table.write(pd.DataFrame({'cpu': [1]}, index=pd.DatetimeIndex([T, last], name='time').as_unit('ns')[1:]))
    df = table.read(columns=['cpu'], end=str(9_300_000_000_000))
    assert df.index.tolist() == [last]


def test_the_epoch_itself_is_a_time(table):
    table.write(pd.DataFrame({'cpu': [1]}, index=pd.DatetimeIndex([pd.Timestamp(0, tz='UTC')], name='time').as_unit('ns')))
    assert table.read(columns=['cpu']).index.tolist() == [pd.Timestamp(0, tz='UTC')]
    assert table.read(columns=['cpu'], end='0')['cpu'].tolist() == [1]


def test_a_frame_without_a_time_index_is_refused(table):
    with table.refuses('write', 'no indices, must have at least one Time index'):
        table.write(pd.DataFrame({'cpu': [1, 2]}))
    with table.refuses('write', 'there is no index of type time/date'):
        table.write(pd.DataFrame({'cpu': [1, 2]}, index=pd.Index(['a', 'b'], name='node')))


def test_a_frame_without_columns_is_refused(table):
    with table.refuses('write', 'empty frame'):
        table.write_frame(pb.Frame(indices=[pb.Column(name='time', dtype=pb.TIME, times=[T.value])]))


def test_a_time_column_is_no_metric(table):
    with table.refuses('write', 'cannot write type 4 as time series value'):
        table.write(samples(time=['0m'], cpu=[1], seen=[pd.Timestamp('2020-01-01', tz='UTC')]))
    assert table.read().empty


def test_a_text_for_a_numeric_series_is_refused_and_the_reverse(table):
    table.write(samples(time=['0m'], cpu=[1], kind=['a']))
    stored = 'failed to ingest values of incompatible data type into metric '
    with table.refuses('write', stored + 'cpu.'):
        table.write(samples(time=['1m'], cpu=['x']))
    with table.refuses('write', stored + 'kind.'):
        table.write(samples(time=['1m', '2m'], kind=[1, 2], cpu=[5, 6]))
    with table.refuses('write', stored + 'kind.'):
        table.write(samples(time=['1m'], kind=[True]))
    assert rows(table.read(columns=['cpu', 'kind'])) == [(at('0m'), 1, 'a')]
    # Other series of the metric have a type of their own.
    table.write(samples(time=['1m'], cpu=['x']), labels={'node': 'b'})
    df = table.read(columns=['cpu'], filter="node == 'b'")
    assert rows(df) == [(at('1m'), 'x', 'b')]


def test_types_that_meet_in_one_request_are_refused_and_earlier_frames_stay(table):
    with table.refuses('write', 'failed to Add: Cannot append string type metric to numeric type metric.'):
        table.write([samples(time=['0m'], cpu=[1]), samples(time=['1m'], cpu=['x'])])
    assert rows(table.read(columns=['cpu'])) == [(at('0m'), 1)]
    with table.refuses('write', 'failed to Add: Cannot append numeric type metric to string type metric.'):
        table.write([samples(time=['0m'], kind=['x']), samples(time=['1m'], kind=[1])])


def test_the_refused_frame_is_named_by_column_and_row(table):
    table.write(samples(time=['0m'], cpu=[1]), labels={'node': 'b'})
    df = pd.DataFrame({'time': times('1m', '1m', '1m'), 'node': ['a', 'b', 'c'], 'mem': [1, 2, 3], 'cpu': ['x', 'y', 'z']})
    with table.refuses('write', "column 'cpu', row 1"):
        table.write(df.set_index(['time', 'node']))
    assert rows(table.read()) == [(at('0m'), 1, 'b')]


def test_bounds_in_the_wrong_order_are_refused(table):
    table.write(samples(time=['0m'], cpu=[1]))
    start, end = at('1h').value // 10**6, T.value // 10**6
    with table.refuses('read', f"End time '{end}' is lower than start time '{start}'."):
        table.read(start=iso(at('1h')), end=iso(T))


@pytest.mark.parametrize(
    'bounds, text',
    [
        ({'start': 'yesterday'}, 'Invalid time string - not an RFC 3339 time format.'),
        ({'start': '2018-07-21'}, 'Invalid time string - not an RFC 3339 time format.'),
        ({'start': '2018-07-21 21:40:00Z'}, 'Invalid time string - not an RFC 3339 time format.'),
        ({'end': 'now-1w'}, "Could not parse the pattern following 'now-'.: invalid duration. Accepted pattern: [0-9]+[mhd]."),
        ({'end': 'now*5m'}, 'Unsupported time format'),
        ({'step': '1.5h', 'aggregators': 'sum'}, 'invalid duration. Accepted pattern: [0-9]+[mhd].'),
        ({'step': '-5m', 'aggregators': 'sum'}, 'The specified duration (-5) is negative.'),
    ],
)
def test_times_and_durations_are_checked(table, bounds, text):
    with table.refuses('read', text):
        table.read(**bounds)


@pytest.mark.parametrize(
    'name, value, shown',
    [
        ('segments', [1], 'Segments'),
        ('total_segments', 2, 'TotalSegments'),
        ('sharding_keys', ['a'], 'ShardingKeys'),
        ('sort_key_range_start', 'a', 'SortKeyRangeStart'),
        ('sort_key_range_end', 'a', 'SortKeyRangeEnd'),
        ('seek', 'earliest', 'Seek'),
        ('shard_id', '1', 'ShardId'),
        ('sequence', 5, 'Sequence'),
    ],
)
def test_what_belongs_to_other_backends_is_refused_on_read(table, name, value, shown):
    with table.refuses('read', f'{shown} cannot be used as an argument to a ReadRequest to tsdb backend'):
        table.read(**{name: value})


def test_what_belongs_to_other_backends_is_refused_on_write(table):
    df = samples(time=['0m'], cpu=[1])
    for options, shown in [
        ({'condition': 'a == 1'}, 'Condition'),
        ({'expression': 'a = 1'}, 'Expression'),
        ({'partition_keys': ['a']}, 'PartitionKeys'),
        ({'save_mode': 'overwriteTable'}, 'SaveMode'),
    ]:
        with table.refuses('write', f'{shown} cannot be used as an argument to a WriteRequest to tsdb backend'):
            table.write(df, **options)
    table.write(df, save_mode='errorIfTableExists')
    with pytest.raises(table.error_of('write')) as caught:
        table.write(df, save_mode='sometimes')
    assert text_of(caught.value).startswith("no save mode named 'sometimes'")


def test_an_unknown_backend_is_named(client):
    for call, text in [
        (lambda: client.create('nosuch', 't'), 'unknown backend - nosuch'),
        (lambda: client.read('nosuch', 't'), 'unknown backend - "nosuch"'),
        (lambda: client.write('nosuch', 't', samples(time=['0m'], cpu=[1])), 'unknown backend - nosuch'),
        (lambda: client.delete('nosuch', 't'), 'unknown backend - nosuch'),
        (lambda: client.execute('nosuch', 't', 'x'), 'unknown backend - nosuch'),
    ]:
        with pytest.raises(v3f.Error) as caught:
            call()
        assert text in text_of(caught.value)
        assert code_of(caught.value) in (None, INVALID_ARGUMENT)


def test_group_by_without_a_function_is_refused(table):
    with table.refuses('read', 'group_by requires an aggregation function'):
        table.read(group_by='os')


@pytest.mark.parametrize(
    'part, text',
    [
        ({'start': 'yesterday'}, 'failed to parse start time: Invalid time string'),
        ({'end': '2018-07-21'}, 'failed to parse end time: Invalid time string'),
        ({'filter': 'os =='}, 'invalid filter expression'),
    ],
)
def test_a_delete_is_checked_before_anything_goes(table, part, text):
    table.write(samples(time=['0m'], cpu=[1]), labels={'os': 'linux'})
    with table.refuses('delete', text):
        table.delete(**part)
    assert len(table.read()) == 1
