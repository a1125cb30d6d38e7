"""Run twice by run.mjs, before and after the server was stopped and started again: nothing is lost or changed."""

import os

import numpy as np
import pandas as pd

from tables import T, Table, samples, times

IS_RESTARTED = os.environ['FRAMESD_RESTARTED'] == '1'


def frame():
    random = np.random.default_rng(5)
    index = pd.date_range(T, periods=5000, freq='s', name='time', unit='ns')
    return pd.DataFrame({'x': random.normal(size=5000), 'n': random.integers(-(2**62), 2**62, size=5000)}, index=index)


def test_large_and_small_writes_are_there_after_a_restart(client, protocol):
    table = Table(client, f'restart/{protocol}')
    if not IS_RESTARTED:
        table.create()
        table.write(frame(), labels={'node': 'large'})
        for i in range(20):
            table.write(samples(time=[f'{i}m'], s=[f'text {i}'], n=[i]), labels={'node': 'small'})
    large = table.read(columns=['x', 'n'], filter="node == 'large'")
    pd.testing.assert_frame_equal(large[['x', 'n']], frame(), check_freq=False)
    small = table.read(columns=['s', 'n'], filter="node == 'small'")
    assert small['s'].tolist() == [f'text {i}' for i in range(20)]
    assert small['n'].tolist() == list(range(20))
    assert small.index.tolist() == times(*[f'{i}m' for i in range(20)]).tolist()


def test_writing_goes_on_after_a_restart(client, protocol):
    table = Table(client, f'restart/{protocol}-goes-on')
    if not IS_RESTARTED:
        table.create()
    table.write(samples(time=['0m', '1m' if IS_RESTARTED else '2m'], cpu=[int(IS_RESTARTED), 7]))
    assert table.read(columns=['cpu'])['cpu'].tolist() == ([1, 7, 7] if IS_RESTARTED else [0, 7])


def test_a_deleted_table_stays_gone(client, protocol):
    table = Table(client, f'restart/{protocol}-deleted')
    if not IS_RESTARTED:
        table.create()
        table.write(frame())
        table.delete()
    with table.refuses('read', 'No TSDB schema file found'):
        table.read()
