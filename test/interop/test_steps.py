"""Reads at step points and the SQL around them: worked examples, then random data against what pandas computes itself."""

import os
import time

import numpy as np
import pandas as pd
import pytest

from tables import T, at, iso, rows, samples

SEED = int(os.environ.get('FRAMESD_SEED', time.time_ns() % 2**32))


@pytest.fixture
def sparse(table):
    table.write(samples(time=['0m', '1m', '6m', '9m'], cpu=[10.0, 20.0, 30.0, 40.0]), labels={'os': 'linux'})
    return table


@pytest.fixture
def two(table):
    offsets = ['0m', '1m', '2m', '3m', '4m']
    table.write(samples(time=offsets, cpu=[10, 1, 20, 1, 30]), labels={'host': 'a'})
    table.write(samples(time=offsets, cpu=[20, 1, 30, 1, 40]), labels={'host': 'b'})
    return table


def test_a_step_without_functions_takes_the_next_sample(sparse):
    df = sparse.read(columns=['cpu'], step='2m', start=iso(T), end=iso(at('10m')))
    assert list(df.columns) == ['cpu', 'os']
    assert rows(df[['cpu']]) == [(at('0m'), 10), (at('2m'), 30), (at('4m'), 30), (at('6m'), 30), (at('8m'), 40)]


def test_functions_across_series_make_one_frame_without_labels(two):
    df = two.read(columns=['cpu'], aggregators='sum_all,min_all,avg_all', step='2m', start=iso(T), end=iso(at('5m')))
    assert list(df.columns) == ['sum(cpu)', 'min(cpu)', 'avg(cpu)']
    assert rows(df) == [(at('0m'), 30, 10, 15), (at('2m'), 50, 20, 25), (at('4m'), 70, 30, 35)]


def test_prev_val_with_a_tolerance(table):
    table.write(samples(time=['0m', '1m', '10m'], cpu=[10, 20, 30]), labels={'host': 'a'})
    table.write(samples(time=['0m', '5m', '10m'], cpu=[20, 30, 40]), labels={'host': 'b'})
    query = f"select sum_all(prev_val(cpu, '1m')) from '{table.name}'"
    df = table.read(query=query, step='5m', start=iso(T), end=iso(at('10m')))
    assert rows(df) == [(at('0m'), 30), (at('5m'), 30), (at('10m'), 70)]


def test_a_raw_column_beside_functions(two):
    query = f"select cpu, max(cpu) as top from '{two.name}' where host='a';"
    df = two.read(query=query, step='2m', start=iso(T), end=iso(at('5m')))
    assert list(df.columns) == ['cpu', 'top', 'host']
    assert rows(df[['cpu', 'top']]) == [(at('0m'), 10, 10), (at('2m'), 20, 20), (at('4m'), 30, 30)]


@pytest.mark.parametrize(
    'aggregators, text',
    [
        ('sum,sum_all', 'can not aggregate both over time and across series aggregates'),
        ('sum_all,sum_all', "function 'sum_all' was requested multiple time"),
        ('nosuch_all', 'invalid aggragate type: nosuch_all'),
    ],
)
def test_mixed_functions_are_refused(two, aggregators, text):
    with two.refuses('read', text):
        two.read(aggregators=aggregators, step='1m')


def at_steps(series, steps, end, method, tolerance):
    """What the server is to answer for one series, as pandas computes it: nothing behind the last sample."""
    series = series.loc[:end]
    if len(series) == 0:
        return pd.Series(np.nan, index=steps)
    upto = steps[steps <= series.index[-1]]
    following = series.reindex(upto, method='bfill', tolerance=tolerance)
    previous = series.reindex(upto, method='ffill', tolerance=tolerance)
    if method == 'next_val':
        found = following
    elif method == 'prev_val':
        found = previous
    elif method == 'none':
        found = series.reindex(upto, method='bfill')
    else:
        both = series.reindex(series.index.union(upto)).interpolate(method='index').reindex(upto)
        found = both.where(following.notna() & previous.notna())
    return found.reindex(steps)


@pytest.mark.parametrize('round', range(4))
def test_random_series_at_steps_as_in_pandas(table, other_client, round):
    seed = (SEED + round) % 2**32
    print(f'FRAMESD_SEED={seed}')
    random = np.random.default_rng(seed)
    written = {}
    for node in ('a', 'b', 'c'):
        seconds = np.unique(random.integers(0, 20_000, size=int(random.integers(1, 800))))
        index = pd.DatetimeIndex(T.value + seconds * 1_000_000_000, tz='UTC', name='time').as_unit('ns')
        written[node] = pd.Series(random.normal(50, 20, size=len(index)), index=index)
        table.write(written[node].to_frame('load'), labels={'node': node})
    step = pd.Timedelta(int(random.choice([7, 60, 300])), 's')
    start, end = T, T + pd.Timedelta(int(random.integers(1000, 25_000)), 's')
    steps = pd.date_range(start, end, freq=step, name='time').as_unit('ns')
    for method in ('next_val', 'prev_val', 'linear', 'none'):
        tolerance = pd.Timedelta(int(random.choice([0, 30, 120, 5000])), 's')
        call = f"{method}(load, '{int(tolerance.total_seconds())}s')"
        expected = pd.DataFrame({node: at_steps(s, steps, end, method, tolerance) for node, s in written.items()})
        request = dict(step=f'{int(step.total_seconds())}s', start=iso(start), end=iso(end))
        df = table.read(query=f"select {call} from '{table.name}'", **request)
        other = other_client.read('tsdb', table.name, query=f"select {call} from '{table.name}'", **request)
        pd.testing.assert_frame_equal(df, other)
        for node in written:
            want = expected[node].dropna()
            got = df[df['node'] == node]['load'] if len(df) > 0 else pd.Series(dtype=float)
            assert got.index.tolist() == want.index.tolist(), (seed, method, node)
            np.testing.assert_allclose(got.to_numpy(), want.to_numpy(), rtol=1e-9, err_msg=f'{seed} {method}')
        functions = {'sum': 'sum', 'min': 'min', 'max': 'max', 'avg': 'mean', 'count': 'count', 'stdvar': 'var'}
        names = ', '.join(f'{name}_all({call})' for name in functions)
        df = table.read(query=f"select {names} from '{table.name}'", **request)
        want = expected.dropna(how='all')
        assert df.index.tolist() == want.index.tolist(), (seed, method)
        for name, of in functions.items():
            if len(want) > 0:
                np.testing.assert_allclose(
                    df[f'{name}(load)'].to_numpy(), getattr(want, of)(axis=1).to_numpy(), rtol=1e-9, atol=1e-9
                )
