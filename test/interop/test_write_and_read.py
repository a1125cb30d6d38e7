"""What is written is what is read: types, nulls, labels, times, order, duplicates."""

import numpy as np
import pandas as pd
import pytest
from v3io_frames import frames_pb2 as pb

from tables import T, at, is_null, iso, ms, rows, samples, times


def test_a_plain_index_comes_back_as_time_and_the_columns_as_asked(table):
    table.write(samples(time=['0m', '1m', '2m', '3m'], cpu=[10.0, 20.0, 30.0, 40.0]), labels={'os': 'linux'})
    df = table.read(columns=['cpu'], start=iso(T), end=iso(at('10m')))
    assert df.index.name == 'time'
    assert str(df.index.dtype) == 'datetime64[ns, UTC]'
    assert list(df.columns) == ['cpu', 'os']
    assert rows(df) == [(at(f'{i}m'), 10.0 * (i + 1), 'linux') for i in range(4)]


def test_200000_rows_of_every_type_come_back_exact(table, other_client):
    count = 200_000
    random = np.random.default_rng(1)
    df = pd.DataFrame(
        {
            'float': random.normal(size=count),
            'int': random.integers(-(2**63), 2**63 - 1, size=count),
            'bool': random.random(count) < 0.5,
            'text': np.array(['', 'a', 'žluťoučký', '日本'], dtype=object)[random.integers(0, 4, size=count)],
        },
        index=pd.date_range(T, periods=count, freq='s', name='time', unit='ns'),
    )
    table.write(df.copy())
    for client in (table.client, other_client):
        read = client.read('tsdb', table.name, start='0', end='now')
        assert len(read) == count
        assert (read.index == df.index).all()
        for name in df.columns:
            assert read[name].dtype == df[name].dtype
            assert (read[name].to_numpy() == df[name].to_numpy()).all(), name


def test_a_multi_index_gives_time_and_labels(table):
    index = pd.MultiIndex.from_tuples(
        [(at('0m'), '11', 'linux'), (at('0m'), '12', 'mac'), (at('1m'), '11', 'linux')], names=['time', 'node', 'os']
    )
    table.write(pd.DataFrame({'cpu': [1.5, 2.5, 3.5], 'ok': [True, False, True]}, index=index))
    df = table.read(columns=['ok', 'cpu'])
    assert list(df.columns) == ['ok', 'cpu', 'node', 'os']
    assert rows(df) == [
        (at('0m'), True, 1.5, '11', 'linux'),
        (at('1m'), True, 3.5, '11', 'linux'),
        (at('0m'), False, 2.5, '12', 'mac'),
    ]
    df = table.read(columns=['cpu'], multi_index=True)
    assert list(df.index.names) == ['time', 'node', 'os']
    assert list(df.columns) == ['cpu']
    assert rows(df) == [
        (at('0m'), '11', 'linux', 1.5),
        (at('1m'), '11', 'linux', 3.5),
        (at('0m'), '12', 'mac', 2.5),
    ]


def test_the_time_index_is_found_by_its_type_and_stands_anywhere(table):
    df = pd.DataFrame(
        {'endpoint_id': ['a', 'b'], 'end_infer_time': times('0m', '1m'), 'calls': [3, 4], 'latency': [0.5, 0.25], 'kind': ['x', 'y']}
    )
    table.write(df, index_cols=['endpoint_id', 'end_infer_time'])
    read = table.read(columns=['latency', 'calls', 'kind'])
    assert read.index.name == 'time'
    assert rows(read) == [(at('0m'), 0.5, 3, 'x', 'a'), (at('1m'), 0.25, 4, 'y', 'b')]


def test_without_columns_all_metrics_are_read_in_order_of_their_names(table):
    table.write(samples(time=['0m'], b=[1], a=[2.5], c=['x']), labels={'host': 'h', 'az': 'z'})
    (frame,) = table.raw()
    assert frame.names() == ['a', 'b', 'c', 'az', 'host']
    df = table.read()
    assert sorted(df.columns) == ['a', 'az', 'b', 'c', 'host']


def test_integers_beyond_2_to_53_and_negative_ones_are_exact(table):
    values = [2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 0, -1]
    table.write(samples(time=[f'{i}m' for i in range(6)], n=values))
    df = table.read(columns=['n'])
    assert df['n'].dtype == np.int64
    assert df['n'].tolist() == values


def test_floats_keep_every_bit(table):
    values = [0.1, -0.0, 5e-324, 1.7976931348623157e308, float('inf'), float('-inf'), 1 / 3]
    table.write(samples(time=[f'{i}m' for i in range(7)], x=values))
    assert np.array(values).tobytes() == table.read(columns=['x'])['x'].to_numpy().tobytes()


def test_texts_and_labels_are_any_unicode(table):
    texts = ['', ' ', 'žluťoučký kůň', '日本語', '🦆', "it's", 'a,b=c', 'line\nbreak', 'x' * 10_000]
    for i, text in enumerate(texts):
        table.write(samples(time=[f'{i}m'], s=[text]), labels={'label': text[:1000]})
    df = table.read(columns=['s'])
    assert sorted(zip(df['s'].tolist(), df['label'].tolist())) == sorted((text, text[:1000]) for text in texts)


def test_times_keep_their_nanoseconds(table):
    index = pd.DatetimeIndex(
        ['2018-07-21T21:40:00.123456789Z', '2018-07-21T21:40:00.123999999Z', '2018-07-21T21:40:00.124Z'], name='time'
    ).as_unit('ns')
    table.write(pd.DataFrame({'cpu': [1.0, 2.0, 3.0]}, index=index))
    bound = '2018-07-21T21:40:00.123Z'
    df = table.read(columns=['cpu'], start=bound, end=bound)
    assert df.index.tolist() == index[:2].tolist()
    df = table.read(columns=['cpu'], aggregators='count', step='1s', start=iso(T), end=iso(at('10s')))
    assert rows(df) == [(T, 3.0)]
    df = table.read(columns=['cpu'], aggregators='count', step='1s', start=iso(T), end=bound)
    assert rows(df) == [(T, 2.0)]


@pytest.mark.parametrize('zone', ['UTC', 'America/New_York', 'Asia/Kolkata'])
def test_times_of_any_zone_come_back_in_utc(table, zone):
    index = pd.date_range('2021-10-31', periods=48, freq='h', tz='UTC', unit='ns').tz_convert(zone)
    index.name = 'time'
    table.write(pd.DataFrame({'cpu': np.arange(48.0)}, index=index))
    df = table.read(columns=['cpu'])
    assert str(df.index.dtype) == 'datetime64[ns, UTC]'
    assert (df.index == index.tz_convert('UTC')).all()


def test_times_without_a_zone_are_utc(table):
    index = pd.date_range('2021-10-31', periods=3, freq='h', name='time', unit='ns')
    table.write(pd.DataFrame({'cpu': [1, 2, 3]}, index=index))
    assert (table.read(columns=['cpu']).index == index.tz_localize('UTC')).all()


def test_nulls_of_every_type_come_back_as_nulls(table):
    df = samples(
        time=['0m', '1m', '2m'],
        float=[1.5, None, 3.5],
        text=['a', None, 'c'],
        flag=pd.Series([True, None, False], dtype=object, index=times('0m', '1m', '2m')),
        present=[1, 2, 3],
    )
    table.write(df)
    read = table.read()
    assert rows(read[['float', 'text', 'flag', 'present']]) == [
        (at('0m'), 1.5, 'a', True, 1),
        (at('1m'), None, None, None, 2),
        (at('2m'), 3.5, 'c', False, 3),
    ]
    (frame,) = table.raw(columns=['float', 'text', 'flag', 'present'])
    assert [is_null(frame, row, 'float') for row in range(3)] == [False, True, False]
    assert [is_null(frame, row, 'flag') for row in range(3)] == [False, True, False]
    assert len(frame.raw_frame.null_values) == 3
    assert np.isnan(frame.column_data('float')[1])
    assert list(frame.column_data('text')) == ['a', '', 'c']
    assert list(frame.column_data('flag')) == [True, False, False]


def test_an_integer_that_is_missing_is_null_and_the_others_stay_exact(table):
    table.write(samples(time=['0m', '2m'], n=[2**53 + 1, 7]))
    table.write(samples(time=['1m'], other=[1]))
    (frame,) = table.raw(columns=['n'])
    assert list(frame.column_data('n')) == [2**53 + 1, 7]
    (frame,) = table.raw(columns=['n', 'other'])
    assert list(frame.column_data('n')) == [2**53 + 1, 0, 7]
    assert [is_null(frame, row, 'n') for row in range(3)] == [False, True, False]
    assert [is_null(frame, row, 'other') for row in range(3)] == [True, False, True]


def test_a_column_of_nulls_writes_nothing(table):
    table.write(pd.DataFrame({'cpu': [1.0, 2.0], 'none': [None, None]}, index=times('0m', '1m')))
    assert list(table.read().columns) == ['cpu']
    table.write(pd.DataFrame({'none': [None, None]}, index=times('2m', '3m')))
    assert len(table.read()) == 2


def test_a_row_of_nulls_leaves_no_row(table):
    table.write(pd.DataFrame({'cpu': [1.0, None, 3.0], 'mem': [None, None, 6.0]}, index=times('0m', '1m', '2m')))
    assert rows(table.read(columns=['cpu', 'mem'])) == [(at('0m'), 1.0, None), (at('2m'), 3.0, 6.0)]


def test_nan_is_a_value_and_null_is_none(table):
    frame = pb.Frame(
        columns=[pb.Column(name='x', dtype=pb.FLOAT, floats=[1.0, float('nan'), 0.0])],
        indices=[pb.Column(name='time', dtype=pb.TIME, times=[at(f'{i}m').value for i in range(3)])],
        null_values=[pb.NullValuesMap(), pb.NullValuesMap(), pb.NullValuesMap(nullColumns={'x': True})],
    )
    table.write_frame(frame)
    (read,) = table.raw(columns=['x'])
    values = list(read.column_data('x'))
    assert len(values) == 2 and values[0] == 1.0 and np.isnan(values[1])
    assert [is_null(read, row, 'x') for row in range(2)] == [False, False]
    df = table.read(columns=['x'], aggregators='count,sum,max,last', start=iso(T), end=iso(at('1h')))
    assert rows(df) == [(T, 2.0, None, None, None)]


def test_metrics_of_one_label_set_share_a_frame_with_null_where_one_has_no_sample(table):
    table.write(samples(time=['0m', '2m'], cpu=[10, 15]))
    table.write(samples(time=['1m'], disk=[20]))
    df = table.read(columns=['cpu', 'disk'])
    assert rows(df) == [(at('0m'), 10, None), (at('1m'), None, 20), (at('2m'), 15, None)]


def test_an_unknown_metric_is_a_column_of_nulls_and_alone_no_frame(table):
    table.write(samples(time=['0m', '1m'], cpu=[1, 2]))
    (frame,) = table.raw(columns=['cpu', 'nosuch'])
    assert frame.names() == ['cpu', 'nosuch']
    assert frame.column('nosuch').dtype == pb.FLOAT
    assert np.isnan(list(frame.column_data('nosuch'))).all()
    assert is_null(frame, 0, 'nosuch') and is_null(frame, 1, 'nosuch')
    assert table.raw(columns=['nosuch']) == []
    assert table.read(columns=['nosuch']).empty


def test_the_newest_write_wins_over_many_writes(table):
    for round in range(20):
        table.write(samples(time=['0m', '1m'], cpu=[round, 100 + round]))
    assert rows(table.read(columns=['cpu'])) == [(at('0m'), 19), (at('1m'), 119)]
    df = table.read(columns=['cpu'], aggregators='count,sum', start=iso(T), end=iso(at('1h')))
    assert rows(df) == [(T, 2.0, 138.0)]


def test_within_a_frame_the_later_row_wins(table):
    table.write(samples(time=['0m', '1m', '0m', '1m', '0m'], cpu=[1, 2, 3, 4, 5]))
    assert rows(table.read(columns=['cpu'])) == [(at('0m'), 5), (at('1m'), 4)]


def test_a_null_takes_no_sample_away(table):
    table.write(samples(time=['0m'], cpu=[1.0], mem=[4.0]))
    table.write(samples(time=['0m'], cpu=[None], mem=[5.0]).astype(float))
    assert rows(table.read(columns=['cpu', 'mem'])) == [(at('0m'), 1.0, 5.0)]


def test_samples_come_in_any_order(table):
    random = np.random.default_rng(7)
    minutes = random.permutation(5000)
    for part in np.array_split(minutes, 7):
        index = pd.DatetimeIndex([at('0m') + pd.Timedelta(minutes=int(m)) for m in part], name='time').as_unit('ns')
        table.write(pd.DataFrame({'m': part.astype(np.int64)}, index=index))
    df = table.read(columns=['m'])
    assert df['m'].tolist() == list(range(5000))
    assert df.index.is_monotonic_increasing


def test_many_label_sets_come_in_order_of_their_labels(table):
    count = 3000
    df = pd.DataFrame({'time': [T] * count, 'node': [f'{i:05}' for i in range(count)], 'cpu': range(count)})
    table.write(df.sample(frac=1, random_state=3).set_index(['time', 'node']))
    frames = table.raw(columns=['cpu'])
    assert [frame.labels()['node'].sval for frame in frames] == [f'{i:05}' for i in range(count)]
    assert [list(frame.column_data('cpu')) for frame in frames] == [[i] for i in range(count)]
    assert table.read(columns=['cpu'], filter="node < '00100'")['cpu'].tolist() == list(range(100))


def test_ten_row_writes_are_all_kept(table):
    for i in range(30):
        table.write(samples(time=[f'{10 * i + j}s' for j in range(10)], n=[10 * i + j for j in range(10)]))
    assert table.read(columns=['n'])['n'].tolist() == list(range(300))


def test_frames_are_cut_by_max_rows_in_msg_both_ways(table):
    df = samples(time=[f'{i}s' for i in range(1000)], n=list(range(1000)))
    table.write(df, max_rows_in_msg=64)
    frames = table.raw(columns=['n'], max_rows_in_msg=300)
    assert [len(frame) for frame in frames] == [300, 300, 300, 100]
    parts = list(table.read(columns=['n'], max_rows_in_msg=300, iterator=True))
    assert [len(part) for part in parts] == [300, 300, 300, 100]
    assert pd.concat(parts)['n'].tolist() == list(range(1000))


def test_a_list_of_frames_is_written_in_order(table):
    answer = table.write([samples(time=['0m'], cpu=[1]), samples(time=['0m', '1m'], cpu=[2, 3])])
    assert rows(table.read(columns=['cpu'])) == [(at('0m'), 2), (at('1m'), 3)]
    if not table.is_grpc:
        assert answer['num_frames'] == 2 and answer['num_rows'] == 3


def test_no_frames_and_empty_frames_are_written_without_an_error(table):
    table.write([])
    table.write(samples(time=['0m'], cpu=[1.0]).iloc[:0])
    assert table.read().empty


def test_get_raw_gives_data_labels_and_nulls_of_one_label_set_a_frame(table):
    table.write(samples(time=['0m', '1m'], cpu=[1, 2]), labels={'os': 'linux', 'node': 'b'})
    table.write(samples(time=['0m'], cpu=[3]), labels={'os': 'mac', 'node': 'a'})
    first, second = table.raw(columns=['cpu'])
    assert [(frame.labels()['node'].sval, frame.labels()['os'].sval) for frame in (first, second)] == [('a', 'mac'), ('b', 'linux')]
    assert first.columns()[0].name == 'cpu'
    assert [(c.name, c.kind, c.dtype, c.size, list(c.strings)) for c in second.columns()[1:]] == [
        ('node', pb.Column.LABEL, pb.STRING, 2, ['b']),
        ('os', pb.Column.LABEL, pb.STRING, 2, ['linux']),
    ]
    assert list(second.column_data('cpu')) == [1, 2]
    assert [c.name for c in second.indices()] == ['time']
    assert not second.is_null(0, 'cpu')


def test_index_levels_of_any_type_become_label_texts(table):
    df = pd.DataFrame({'time': times('0m'), 'i': [-5], 'f': [3.5], 'g': [7.0], 'b': [True], 's': ['x'], 'cpu': [1]})
    table.write(df, index_cols=['time', 'i', 'f', 'g', 'b', 's'])
    (frame,) = table.raw()
    assert {name: value.sval for name, value in frame.labels().items()} == {'i': '-5', 'f': '3.5', 'g': '7', 'b': 'true', 's': 'x'}


def test_labels_of_the_call_become_texts_and_override_index_levels(table):
    df = pd.DataFrame({'time': times('0m'), 'node': ['from-index'], 'cpu': [1]}).set_index(['time', 'node'])
    table.write(df, labels={'node': 'from-call', 'n': 17, 'x': 3.22, 'ok': True})
    (frame,) = table.raw()
    assert {name: value.sval for name, value in frame.labels().items()} == {'node': 'from-call', 'n': '17', 'x': '3.22', 'ok': 'true'}


def test_the_label_name_names_the_metric(table):
    table.write(samples(time=['0m'], value=[1.5]), labels={'__name__': 'cpu', 'os': 'linux'})
    assert rows(table.read(columns=['cpu'])) == [(at('0m'), 1.5, 'linux')]
    with table.refuses('write', 'label __name__ cannot be set with multi column TSDB frames'):
        table.write(samples(time=['0m'], a=[1], b=[2]), labels={'__name__': 'cpu'})


def test_a_series_of_ints_and_floats_reads_as_float_and_of_ints_and_bools_as_int(table):
    table.write(samples(time=['0m', '1m'], cpu=[1, 2], flag=[True, False]))
    assert rows(table.read(columns=['cpu', 'flag'])) == [(at('0m'), 1, True), (at('1m'), 2, False)]
    assert table.read(columns=['cpu'])['cpu'].dtype == np.int64
    table.write(samples(time=['2m'], cpu=[2.5], flag=[7]))
    df = table.read(columns=['cpu', 'flag'])
    assert df['cpu'].dtype == np.float64 and df['flag'].dtype == np.int64
    assert rows(df) == [(at('0m'), 1.0, 1), (at('1m'), 2.0, 0), (at('2m'), 2.5, 7)]
    # The type is the series', whatever part of it is read.
    df = table.read(columns=['cpu'], end=iso(at('1m')))
    assert df['cpu'].dtype == np.float64


def test_categorical_columns_are_texts(table):
    df = samples(time=['0m', '1m', '2m'], kind=pd.Categorical(['a', 'b', 'a']))
    table.write(df)
    assert table.read(columns=['kind'])['kind'].tolist() == ['a', 'b', 'a']


def test_start_and_end_are_both_inclusive(table):
    table.write(samples(time=['0m', '1m', '2m', '3m'], cpu=[1, 2, 3, 4]))
    assert table.read(columns=['cpu'], start=iso(at('1m')), end=iso(at('2m')))['cpu'].tolist() == [2, 3]
    assert table.read(columns=['cpu'], start=iso(at('1m')), end=iso(at('1m')))['cpu'].tolist() == [2]
    assert table.read(columns=['cpu'], start=ms(at('1m')), end=ms(at('2m')))['cpu'].tolist() == [2, 3]
    assert table.read(columns=['cpu'], start=iso(at('4m')), end=iso(at('5m'))).empty


def test_without_bounds_the_last_hour_is_read(table):
    now = pd.Timestamp.now(tz='UTC').as_unit('ns').floor('ms')
    index = pd.DatetimeIndex([now - pd.Timedelta('2h'), now - pd.Timedelta('30m'), now + pd.Timedelta('30m')], name='time').as_unit('ns')
    table.write(pd.DataFrame({'cpu': [1, 2, 3]}, index=index))
    assert table.client.read('tsdb', table.name, columns=['cpu'])['cpu'].tolist() == [2]
    assert table.client.read('tsdb', table.name, columns=['cpu'], start='now-3h')['cpu'].tolist() == [1, 2]
    assert table.client.read('tsdb', table.name, columns=['cpu'], end='now+1h')['cpu'].tolist() == [3]
    assert table.client.read('tsdb', table.name, columns=['cpu'], start='now-3h', end='now+1h')['cpu'].tolist() == [1, 2, 3]
    # An hour before `end`, not before now.
    assert table.client.read('tsdb', table.name, columns=['cpu'], end='now-90m')['cpu'].tolist() == [1]


def test_limit_cuts_the_whole_answer_and_its_marker_goes_on(table):
    for node in 'abc':
        table.write(samples(time=[f'{i}m' for i in range(5)], n=list(range(5))), labels={'node': node})
    everything = rows(table.read(columns=['n']))
    for limit in (1, 4, 5, 7, 14):
        got, marker = [], ''
        while True:
            frames = table.raw(columns=['n'], limit=limit, marker=marker)
            assert sum(len(frame) for frame in frames) <= limit
            for frame in frames:
                node = frame.labels()['node'].sval
                got += [(pd.Timestamp(t, tz='UTC'), n, node) for t, n in zip(frame.indices()[0].times, frame.column_data('n'))]
            marker = frames[-1].labels()['next_marker'].sval if 'next_marker' in frames[-1].labels() else ''
            if marker == '':
                break
        assert got == everything, limit
    assert len(table.read(columns=['n'], limit=7)) == 7
    assert 'next_marker' not in table.raw(columns=['n'], limit=15)[-1].labels()
    with table.refuses('read', 'marker'):
        table.read(columns=['n'], limit=3, marker='nonsense')


def test_row_layout_and_data_format_change_nothing_for_this_client(table):
    table.write(samples(time=['0m'], cpu=[1.5]))
    assert rows(table.read(columns=['cpu'], row_layout=True)) == [(T, 1.5)]
    if not table.is_grpc:
        assert rows(table.read(columns=['cpu'], data_format='arrow')) == [(T, 1.5)]


def test_what_one_protocol_writes_the_other_reads(table, other_client):
    table.write(samples(time=['0m', '1m'], cpu=[1.5, 2.5]), labels={'os': 'linux'})
    df = other_client.read('tsdb', table.name, columns=['cpu'], start='0', end='now')
    assert rows(df) == [(at('0m'), 1.5, 'linux'), (at('1m'), 2.5, 'linux')]


def test_the_policy_first_keeps_what_is_stored(missing):
    missing.create(duplicates='first')
    missing.write(samples(time=['0m', '0m', '1m'], cpu=[1, 2, 3]))
    missing.write(samples(time=['0m', '1m', '2m'], cpu=[4, 5, 6]))
    assert rows(missing.read(columns=['cpu'])) == [(at('0m'), 1), (at('1m'), 3), (at('2m'), 6)]


def test_the_policy_error_refuses_the_whole_frame(missing):
    missing.create(duplicates='error')
    missing.write(samples(time=['0m', '1m'], cpu=[1, 2]))
    with missing.refuses('write', 'failed to Add: '):
        missing.write(samples(time=['2m', '1m'], cpu=[3, 4]))
    with missing.refuses('write', 'row 2'):
        missing.write(samples(time=['3m', '4m', '3m'], cpu=[3, 4, 5]))
    assert rows(missing.read(columns=['cpu'])) == [(at('0m'), 1), (at('1m'), 2)]


def test_another_policy_is_refused_and_the_three_are_named(missing):
    with missing.refuses('create', "'last', 'first' or 'error'"):
        missing.create(duplicates='newest')
