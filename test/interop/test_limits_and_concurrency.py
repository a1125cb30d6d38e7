"""Large, wide and long things, and many clients at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import v3io_frames as v3f
from v3io_frames import frames_pb2 as pb

from tables import T, at, rows, samples, text_of, times

MEBIBYTE = 2**20


def test_a_frame_of_a_thousand_columns_comes_back(table):
    df = pd.DataFrame({f'm{i:04}': np.arange(10) + i for i in range(1000)}, index=times(*[f'{i}m' for i in range(10)]))
    df.loc[df.index[3], 'm0500'] = 7
    table.write(df)
    read = table.read()
    assert list(read.columns) == list(df.columns)
    assert (read.to_numpy() == df.to_numpy()).all()
    some = ['m0999', 'm0000', 'm0500']
    assert list(table.read(columns=some).columns) == some


def test_long_texts_come_back(table):
    texts = ['x' * MEBIBYTE, '', 'ž' * 300_000, 'y' * 5 * MEBIBYTE]
    table.write(samples(time=['0m', '1m', '2m', '3m'], s=texts))
    assert table.read(columns=['s'])['s'].tolist() == texts
    assert table.read(columns=['s'], start=at('2m').isoformat())['s'].tolist() == texts[2:]


def test_a_label_that_is_too_long_is_refused_and_one_that_is_not_comes_back(table):
    table.write(samples(time=['0m'], cpu=[1]), labels={'node': 'x' * 10_000})
    assert table.read(columns=['cpu'])['node'].tolist() == ['x' * 10_000]
    with pytest.raises(table.error_of('write')) as caught:
        table.write(samples(time=['0m'], cpu=[1]), labels={'node': 'x' * 100_000})
    assert 'label' in text_of(caught.value)
    assert len(table.read(columns=['cpu'])) == 1


@pytest.mark.parametrize('path', ['with blank', 'ž/日本', 'a.b-c_d/é', "it's", '%2F'])
def test_tables_may_have_any_name(client, protocol, path):
    name = f'{protocol}/{path}'
    client.create('tsdb', name, rate='1/m')
    client.write('tsdb', name, samples(time=['0m'], cpu=[1]))
    assert rows(client.read('tsdb', name, columns=['cpu'], start='0')) == [(T, 1)]
    client.delete('tsdb', name)
    with pytest.raises(v3f.Error, match='No TSDB schema file found'):
        client.read('tsdb', name, start='0')


def test_a_path_that_is_too_long_is_refused(client):
    with pytest.raises(v3f.CreateError):
        client.create('tsdb', 'x' * 5000, rate='1/m')


def test_many_writers_at_once_lose_nothing(table, address):
    """Each adds label sets of its own and samples to one that all share."""

    def write(writer):
        client = v3f.Client(address, container='interop')
        for i in range(15):
            client.write('tsdb', table.name, samples(time=[f'{i}m'], own=[100 * writer + i]), labels={'node': f'{writer}-{i % 3}'})
            client.write('tsdb', table.name, samples(time=[f'{writer * 1000 + i}ms'], shared=[writer]))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    own = table.read(columns=['own'])
    assert sorted(own['own'].tolist()) == sorted(100 * writer + i for writer in range(8) for i in range(15))
    shared = table.read(columns=['shared'])
    assert shared['shared'].tolist() == [writer for writer in range(8) for _ in range(15)]


def test_a_read_sees_each_frame_whole_or_not_at_all(table, address):
    count = 5000
    index = pd.date_range(T, periods=count, freq='s', name='time', unit='ns')

    def write(_):
        client = v3f.Client(address, container='interop')
        for round in range(1, 7):
            client.write('tsdb', table.name, pd.DataFrame({'a': round, 'b': -round}, index=index))

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write, 0)
        seen = []
        while not writing.done() or not seen:
            for frame in table.raw(columns=['a', 'b']):
                assert len(frame) == count
                assert len(set(frame.column_data('a'))) == 1
                assert list(frame.column_data('b')) == [-a for a in frame.column_data('a')]
                seen.append(frame.column_data('a')[0])
        writing.result()
    assert seen == sorted(seen)
    assert set(table.read(columns=['a'])['a']) == {6}


@pytest.mark.parametrize('where', ['first', 'last'])
def test_a_refusal_arrives_also_while_much_is_still_being_sent(table, where):
    big = pd.DataFrame({'cpu': np.random.default_rng(1).normal(size=100_000)}, index=pd.date_range(T, periods=100_000, freq='s', name='time', unit='ns'))
    bad = samples(time=['0m'], **{'bad name': [1]})
    with table.refuses('write', "failed to Add: metric name contains illegal characters. Name 'bad name'"):
        table.write([bad, big, big, big] if where == 'first' else [big, big, big, bad])
    assert len(table.read()) == (0 if where == 'first' else 100_000)
    # The connection and the table are as good as before.
    table.write(samples(time=['0m'], cpu=[1.5]))
    assert table.read(columns=['cpu'], end=T.isoformat())['cpu'].tolist() == [1.5]


def test_a_large_write_to_a_missing_table_is_told_so(missing):
    big = pd.DataFrame({'cpu': np.arange(200_000.0)}, index=pd.date_range(T, periods=200_000, freq='s', name='time', unit='ns'))
    with missing.refuses('write', 'No TSDB schema file found'):
        missing.write([big, big])


def test_200000_rows_of_40_label_sets_come_in_order_before_and_after_compaction(table):
    """As many rows as are read by several workers at once, each with label sets of its own."""
    random = np.random.default_rng(11)
    count = 200_000
    order = random.permutation(count)
    values = random.normal(size=count)
    for part in np.array_split(order, 4):
        table.write_frame(
            pb.Frame(
                columns=[
                    pb.Column(name='n', dtype=pb.INTEGER, ints=part.tolist()),
                    pb.Column(name='x', dtype=pb.FLOAT, floats=values[part]),
                ],
                indices=[
                    pb.Column(name='time', dtype=pb.TIME, times=(T.value + part // 40 * 10**9).tolist()),
                    pb.Column(name='node', dtype=pb.STRING, strings=[f'{n % 40:02}' for n in part.tolist()]),
                ],
            )
        )
    for command in ('flush', 'compact'):
        table.client.execute('tsdb', table.name, command)
        found = {}
        for frame in table.raw(columns=['n', 'x']):
            node = frame.labels()['node'].sval
            found.setdefault(node, []).append((frame.indices()[0].times, frame.column_data('n'), frame.column_data('x')))
        assert list(found) == [f'{node:02}' for node in range(40)]
        for node, parts in found.items():
            ns = np.concatenate([part[1] for part in parts])
            np.testing.assert_array_equal(ns, np.arange(int(node), count, 40))
            np.testing.assert_array_equal(np.concatenate([part[2] for part in parts]), values[ns])
            np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), T.value + ns // 40 * 10**9)
        frames = table.raw(columns=['x'], aggregators='count,sum,max', start=T.isoformat(), end=at('2h').isoformat())
        for node, frame in enumerate(frames):
            assert list(frame.column_data('count(x)')) == [5000.0]
            assert frame.column_data('sum(x)')[0] == pytest.approx(values[node::40].sum(), rel=1e-9)
            assert frame.column_data('max(x)')[0] == values[node::40].max()
        assert len(frames) == 40
