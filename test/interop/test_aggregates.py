"""Over-time aggregation: the rules with worked examples, then random data against what pandas computes itself."""

import os
import time

import numpy as np
import pandas as pd
import pytest

from tables import T, at, iso, rows, samples

FUNCTIONS = ['count', 'sum', 'sqr', 'min', 'max', 'last', 'avg', 'stdvar', 'stddev', 'rate']
SEED = int(os.environ.get('FRAMESD_SEED', time.time_ns() % 2**32))


@pytest.fixture
def four(table):
    """10, 20, 30, 40 at T, T+1m, T+2m, T+3m."""
    table.write(samples(time=['0m', '1m', '2m', '3m'], cpu=[10.0, 20.0, 30.0, 40.0]), labels={'os': 'linux'})
    return table


def aggregated(table, functions, step='', start=T, end=at('10m'), columns=('cpu',), **kw):
    df = table.read(columns=list(columns), aggregators=functions, step=step, start=iso(start), end=iso(end), **kw)
    return df.drop(columns=[name for name in ('os',) if name in df.columns])


def test_each_function_gives_its_value_in_each_bucket(four):
    df = aggregated(four, ','.join(FUNCTIONS), '2m')
    assert list(df.columns) == [f'{name}(cpu)' for name in FUNCTIONS]
    assert (df.dtypes == np.float64).all()
    first, second = rows(df)
    assert first == (at('0m'), 2.0, 30.0, 500.0, 10.0, 20.0, 20.0, 15.0, 50.0, pytest.approx(50**0.5), None)
    assert second == (at('2m'), 2.0, 70.0, 2500.0, 30.0, 40.0, 40.0, 35.0, 50.0, pytest.approx(50**0.5), pytest.approx(20 / 120))


def test_columns_stand_in_the_order_of_the_functions_and_labels_behind_them(four):
    df = four.read(columns=['cpu'], aggregators='sum, max', step='2m', start=iso(T), end=iso(at('10m')))
    assert list(df.columns) == ['sum(cpu)', 'max(cpu)', 'os']
    assert rows(df) == [(at('0m'), 30.0, 20.0, 'linux'), (at('2m'), 70.0, 40.0, 'linux')]


def test_buckets_follow_from_the_start_also_when_it_is_a_week_before(table):
    table.write(samples(time=['-7d', '0m', '2m', '3m'], cpu=[10.0, 20.0, 30.0, 40.0]))
    assert rows(aggregated(table, 'sum', '5m', start=at('-7d'))) == [(at('-7d'), 10.0), (T, 90.0)]


def test_pre_aggregates_that_reach_over_the_border_of_a_bucket_are_not_used(missing):
    missing.create(aggregates='*', aggregation_granularity='1h')
    missing.write(samples(time=['0m', '1m', '2m', '3m'], cpu=[10.0, 20.0, 30.0, 40.0]))
    missing.client.execute('tsdb', missing.name, 'compact')
    assert rows(aggregated(missing, 'sum', '4h', start=at('-4h'))) == [(T, 100.0)]


def test_without_a_step_there_is_one_bucket(four):
    df = aggregated(four, 'count,sum,avg,stdvar')
    assert rows(df) == [(T, 4.0, 100.0, 25.0, pytest.approx(500 / 3))]


def test_of_one_sample_the_variance_is_nan(four):
    df = aggregated(four, 'count,stdvar,stddev,avg', '1m', end=T)
    assert rows(df) == [(T, 1.0, None, None, 10.0)]


def test_end_is_inclusive_and_may_open_a_last_bucket(four):
    assert rows(aggregated(four, 'sum', '1m', end=at('3m')))[-1] == (at('3m'), 40.0)
    assert rows(aggregated(four, 'sum', end=at('3m'))) == [(at('0m'), 60.0), (at('3m'), 40.0)]
    assert rows(aggregated(four, 'sum', start=at('1m'), end=at('1m'))) == [(at('1m'), 20.0)]


def test_buckets_begin_at_start_and_not_at_the_hour(four):
    df = aggregated(four, 'sum', '2m', start=at('-30s'))
    assert rows(df) == [(at('-30s'), 30.0), (at('90s'), 70.0)]


def test_empty_buckets_are_left_out_and_a_metric_without_samples_is_nan(table):
    table.write(samples(time=['-7d', '-4d'], cpu1=[10, 20]))
    table.write(samples(time=['-1d'], cpu2=[30]))
    df = aggregated(table, 'count', '1m', start=at('-7d'), columns=['cpu1', 'cpu2'])
    assert rows(df) == [(at('-7d'), 1.0, None), (at('-4d'), 1.0, None), (at('-1d'), None, 1.0)]


def test_a_long_range_has_only_the_buckets_with_samples(table):
    table.write(samples(time=['-7d', '0m', '2m', '3m'], cpu=[10, 20, 30, 40]))
    df = aggregated(table, 'sum', '5m', start=at('-7d'))
    assert rows(df) == [(at('-7d'), 10.0), (at('0m'), 90.0)]


def test_start_0_is_moved_to_the_partition_that_holds_the_first_sample(four):
    df = four.read(columns=['cpu'], aggregators='count', start='0', end='now')
    assert df.index.tolist() == [pd.Timestamp('2018-07-20T00:00:00Z')]
    assert df['count(cpu)'].tolist() == [4.0]


def test_nothing_in_range_gives_no_frame(four):
    assert aggregated(four, 'count', start=at('1h'), end=at('2h')).empty
    assert aggregated(four, 'count', start=at('100d'), end=at('101d')).empty


def test_a_text_metric_beside_numbers_is_counted_and_otherwise_nan(table):
    table.write(samples(time=['0m', '1m'], cpu=[1, 2], kind=['a', 'b']))
    assert rows(aggregated(table, 'count,last', columns=['cpu', 'kind'])) == [(T, 2.0, 2.0, 2.0, None)]
    df = table.read(aggregators='last', start=iso(T), end=iso(at('1h')))
    assert rows(df[['last(cpu)', 'last(kind)']]) == [(T, 2.0, None)]


def test_bools_count_as_one_and_zero(table):
    table.write(samples(time=['0m', '1m', '2m'], ok=[True, False, True]))
    assert rows(aggregated(table, 'count,sum,min,max,avg', columns=['ok'])) == [(T, 3.0, 2.0, 0.0, 1.0, pytest.approx(2 / 3))]


def test_rate_looks_back_to_the_nearest_bucket_with_samples(table):
    table.write(samples(time=['0m', '1m', '9m', '20m'], cpu=[10, 16, 4, 4]))
    df = aggregated(table, 'rate', '2m', end=at('30m'))
    assert rows(df) == [(at('0m'), None), (at('8m'), (4 - 16) / 480), (at('20m'), 0.0)]


def test_variance_does_not_cancel(table):
    values = [1e9 + i % 3 for i in range(300)]
    table.write(samples(time=[f'{i}s' for i in range(300)], cpu=values))
    df = aggregated(table, 'stdvar,stddev')
    assert df['stdvar(cpu)'].iloc[0] == pytest.approx(np.var(values, ddof=1), rel=1e-12)
    assert df['stddev(cpu)'].iloc[0] == pytest.approx(np.std(values, ddof=1), rel=1e-12)


@pytest.mark.parametrize('limit', [1, 2, 3, 7])
def test_an_aggregation_cut_by_limit_goes_on_where_it_stopped(table, limit):
    """Also rate, whose first bucket behind the cut needs the last one before it."""
    for node in ('a', 'b'):
        values = np.random.default_rng(ord(node)).normal(size=100)
        table.write(samples(time=[f'{37 * i}s' for i in range(100)], cpu=values, mem=values[::-1]), labels={'node': node})
    request = dict(columns=['cpu', 'mem'], aggregators='count,sum,rate', step='5m', start=iso(T), end=iso(at('1h')))
    whole, parts, marker = table.raw(**request), [], ''
    while True:
        part = table.raw(**request, limit=limit, marker=marker)
        assert sum(map(len, part)) <= limit
        parts += part
        if 'next_marker' not in part[-1].labels():
            break
        marker = part[-1].labels()['next_marker'].sval
    for name in ('count(cpu)', 'sum(mem)', 'rate(cpu)', 'rate(mem)'):
        joined = [[value for frame in frames for value in frame.column_data(name)] for frames in (whole, parts)]
        np.testing.assert_array_equal(*joined)
    assert [t for f in whole for t in f.indices()[0].times] == [t for f in parts for t in f.indices()[0].times]


def test_functions_are_checked(four):
    for functions, text in [
        ('nosuch', 'invalid aggragate type: nosuch'),
        ('AVG', 'invalid aggragate type: AVG'),
        ('first', 'invalid aggragate type: first'),
        ('*', 'cannot aggregate *'),
        ('max,min,max', "function 'max' was requested multiple time"),
    ]:
        with four.refuses('read', text):
            aggregated(four, functions, '1m')


def random_frame(random, count):
    """Samples of two metrics with gaps, in 2 to 30 hours, most of them apart from each other."""
    span_ns = int(random.integers(2, 30)) * 3_600_000_000_000
    offsets = random.choice(span_ns, size=count, replace=False) if span_ns < 10**6 else random.integers(0, span_ns, size=count)
    offsets = np.unique(offsets)
    index = pd.DatetimeIndex(T.value + offsets, tz='UTC', name='time').as_unit('ns')
    floats = random.normal(50, 20, size=len(index))
    floats[random.random(len(index)) < 0.2] = np.nan
    return pd.DataFrame({'load': floats, 'calls': random.integers(-1000, 1000, size=len(index))}, index=index)


def expected_of(series, start, end, step):
    """What the server is to answer for one metric, as pandas computes it."""
    series = series.dropna().loc[start:end]
    bins = series.resample(step, origin=start)
    out = pd.DataFrame(
        {
            'count': bins.count().astype(float),
            'sum': bins.sum(),
            'sqr': (series**2).resample(step, origin=start).sum(),
            'min': bins.min(),
            'max': bins.max(),
            'last': bins.last(),
            'avg': bins.mean(),
            'stdvar': bins.var(),
            'stddev': bins.std(),
        }
    )
    out = out[out['count'] > 0]
    seconds = out.index.to_series().diff().dt.total_seconds()
    out['rate'] = out['last'].diff() / seconds
    return out


@pytest.mark.parametrize('round', range(4))
def test_random_series_aggregate_as_in_pandas(table, other_client, round):
    seed = (SEED + round) % 2**32
    print(f'FRAMESD_SEED={seed}')
    random = np.random.default_rng(seed)
    written = {}
    for node in ('a', 'b', 'c'):
        df = random_frame(random, int(random.integers(1, 5000)))
        written[node] = df
        # In any order and in several writes.
        shuffled = df.iloc[random.permutation(len(df))]
        for part in np.array_split(np.arange(len(df)), 3):
            table.write(shuffled.iloc[part], labels={'node': node})
    start = T + pd.Timedelta(int(random.integers(0, 3_600_000)), 'ms')
    end = start + pd.Timedelta(int(random.integers(3_600_000, 100_000_000)), 'ms')
    step = pd.Timedelta(int(random.choice([1, 7, 60, 300, 3600, 86400])), 's')
    request = dict(
        columns=['load', 'calls'],
        aggregators=','.join(FUNCTIONS),
        step=f'{int(step.total_seconds())}s',
        start=iso(start),
        end=iso(end),
    )
    answers = [client.read('tsdb', table.name, **request) for client in (table.client, other_client)]
    pd.testing.assert_frame_equal(*answers)
    (answer, _) = answers
    for node, df in written.items():
        expected = pd.concat({name: expected_of(df[name], start, end, step) for name in ('load', 'calls')}, axis=1)
        got = answer[answer['node'] == node] if len(answer) > 0 else answer
        if len(expected) == 0:
            assert len(got) == 0
            continue
        assert got.index.tolist() == expected.index.tolist(), (seed, node)
        for name in ('load', 'calls'):
            for function in FUNCTIONS:
                np.testing.assert_allclose(
                    got[f'{function}({name})'].to_numpy(),
                    expected[name][function].to_numpy(),
                    rtol=1e-9,
                    atol=1e-9,
                    equal_nan=True,
                    err_msg=f'FRAMESD_SEED={seed}: {function}({name}) of node {node}',
                )


def test_random_raw_reads_equal_what_pandas_keeps(table):
    """Several writes over the same times: pandas keeps the last of each cell, as the table does."""
    print(f'FRAMESD_SEED={SEED}')
    random = np.random.default_rng(SEED)
    kept = pd.DataFrame()
    for _ in range(8):
        seconds = np.unique(random.integers(0, 3000, size=int(random.integers(1, 1500))))
        index = pd.DatetimeIndex(T.value + seconds * 1_000_000_000, tz='UTC', name='time').as_unit('ns')
        values = random.normal(size=(len(index), 2))
        values[random.random(values.shape) < 0.3] = np.nan
        df = pd.DataFrame(values, columns=['a', 'b'], index=index)
        table.write(df)
        kept = df.combine_first(kept)
    kept = kept.dropna(how='all').sort_index()
    read = table.read(columns=['a', 'b'])
    assert (read.index == kept.index).all()
    np.testing.assert_array_equal(read.to_numpy(), kept.to_numpy())
    assert read['a'].isna().sum() > 0
    part = table.read(columns=['a', 'b'], start=iso(at('100s')), end=iso(at('200s')))
    np.testing.assert_array_equal(part.to_numpy(), kept.loc[at('100s') : at('200s')].to_numpy())
