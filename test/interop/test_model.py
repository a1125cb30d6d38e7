"""Random writes of any kind, with flushes and compactions between them, against a model that is a dict."""

import os
import time

import numpy as np
import pandas as pd
import pytest
from v3io_frames import frames_pb2 as pb

from tables import T, iso, is_null

SEED = int(os.environ.get('FRAMESD_SEED', time.time_ns() % 2**32))
METRICS = {'i': 'int', 'f': 'float', 'b': 'bool', 's': 'text', 'mixed': 'mixed'}
SPAN_S = 600
NULL = object()


class Model:
    """(label set, metric) → time in ns → value, as the table is to have it under its policy."""

    def __init__(self, policy):
        self.policy = policy
        self.samples = {}
        self.types = {}

    def write(self, labels, metric, time_ns, value):
        series = self.samples.setdefault((labels, metric), {})
        if self.policy == 'last' or time_ns not in series:
            series[time_ns] = value
        self.types.setdefault((labels, metric), set()).add(type(value))

    def value(self, labels, metric, time_ns):
        """As a raw read gives it: in the one type of its series."""
        value = self.samples.get((labels, metric), {}).get(time_ns, NULL)
        if value is NULL or isinstance(value, str):
            return value
        types = self.types[(labels, metric)]
        kind = float if float in types else int if int in types else bool
        return kind(value)

    def rows(self, labels, metrics, start_ns, end_ns):
        times = {t for m in metrics for t in self.samples.get((labels, m), {}) if start_ns <= t <= end_ns}
        return [(t, *(self.value(labels, m, t) for m in metrics)) for t in sorted(times)]

    def label_sets(self):
        return sorted({labels for labels, _ in self.samples})


def random_value(random, kind):
    if kind == 'mixed':
        kind = ('int', 'float', 'bool')[int(random.integers(3))]
    if kind == 'int':
        return int(random.integers(-(2**63), 2**63 - 1)) if random.random() < 0.5 else int(random.integers(-5, 5))
    if kind == 'float':
        return float(random.normal()) if random.random() < 0.5 else float(random.integers(-5, 5)) / 2
    if kind == 'bool':
        return bool(random.random() < 0.5)
    return ('', 'a', 'bb', 'žluťoučký', '日本語' * 20)[int(random.integers(5))]


def column_of(name, kind, values):
    fill = {'int': 0, 'float': 0.0, 'bool': False, 'text': ''}[kind]
    present = [fill if value is NULL else value for value in values]
    if kind == 'int':
        return pb.Column(name=name, dtype=pb.INTEGER, ints=present)
    if kind == 'float':
        return pb.Column(name=name, dtype=pb.FLOAT, floats=present)
    if kind == 'bool':
        return pb.Column(name=name, dtype=pb.BOOLEAN, bools=present)
    return pb.Column(name=name, dtype=pb.STRING, strings=present)


def random_write(random, table, model):
    count = int(random.choice([1, 3, 10, 200, 3000]))
    by_index = random.random() < 0.5
    nodes = [str(int(n)) for n in random.integers(0, 4, size=count)] if by_index else [str(int(random.integers(0, 4)))] * count
    fixed = 'eu' if random.random() < 0.5 else None
    times = [T.value + int(t) * 10**9 + int(random.integers(0, 2)) for t in random.integers(0, SPAN_S, size=count)]
    names = [name for name in METRICS if random.random() < 0.6] or ['i']
    share = float(random.choice([0.0, 0.0, 0.1, 0.9]))
    columns, cells = [], {}
    for name in names:
        kind = METRICS[name]
        if kind == 'mixed':
            kind = ('int', 'float', 'bool')[int(random.integers(3))]
        cells[name] = [NULL if random.random() < share else random_value(random, kind) for _ in range(count)]
        columns.append(column_of(name, kind, cells[name]))
    indices = [pb.Column(name='when', dtype=pb.TIME, times=times)]
    labels = {} if fixed is None else {'region': pb.Value(sval=fixed)}
    if by_index:
        indices.append(pb.Column(name='node', dtype=pb.STRING, strings=nodes))
    else:
        labels['node'] = pb.Value(sval=nodes[0])
    nulls = [pb.NullValuesMap(nullColumns={n: True for n in names if cells[n][row] is NULL}) for row in range(count)]
    has_nulls = any(value is NULL for name in names for value in cells[name])
    table.write_frame(pb.Frame(columns=columns, indices=indices, labels=labels, null_values=nulls if has_nulls else []))
    for row in range(count):
        of = tuple(sorted({'node': nodes[row], **({} if fixed is None else {'region': fixed})}.items()))
        for name in names:
            if cells[name][row] is not NULL:
                model.write(of, name, times[row], cells[name][row])


def rows_of(frames, metrics):
    """Label set → rows, exact: missing cells apart from NaN."""
    found = {}
    for frame in frames:
        labels = tuple(sorted((name, value.sval) for name, value in frame.labels().items() if name != 'next_marker'))
        columns = [list(frame.column_data(name)) for name in metrics]
        for row, time_ns in enumerate(frame.indices()[0].times):
            cells = [NULL if is_null(frame, row, name) else column[row] for name, column in zip(metrics, columns)]
            found.setdefault(labels, []).append((time_ns, *cells))
    return found


def check_raw(random, table, model):
    metrics = [name for name in METRICS if random.random() < 0.5] or ['mixed']
    start, end = sorted(int(t) for t in random.integers(-5, SPAN_S + 5, size=2))
    start_ms, end_ms = (T.value // 10**6 + t * 1000 for t in (start, end))
    bounds = (start_ms * 10**6, end_ms * 10**6 + 999_999)
    expected = {labels: model.rows(labels, metrics, *bounds) for labels in model.label_sets()}
    expected = {labels: rows for labels, rows in expected.items() if rows}
    request = dict(columns=metrics, start=str(start_ms), end=str(end_ms))
    assert rows_of(table.raw(**request, max_rows_in_msg=int(random.choice([0, 7, 1000]))), metrics) == expected
    # The same in pieces, each going on where the last one stopped.
    limit = int(random.integers(1, 400))
    frames, marker = [], ''
    for _ in range(8):
        part = table.raw(**request, limit=limit, marker=marker)
        frames += part
        if not part or 'next_marker' not in part[-1].labels():
            assert rows_of(frames, metrics) == expected
            return
        assert sum(len(frame) for frame in part) == limit
        marker = part[-1].labels()['next_marker'].sval
    pieces = rows_of(frames, metrics)
    for labels, rows in pieces.items():
        assert rows == expected[labels][: len(rows)]
    assert sum(map(len, pieces.values())) == 8 * limit


def check_aggregates(random, table, model):
    step_s = int(random.choice([1, 7, 60, 601]))
    functions = ['count', 'sum', 'min', 'max', 'last', 'avg']
    request = dict(columns=['f', 'mixed'], aggregators=','.join(functions), step=f'{step_s}s')
    frames = table.raw(**request, start=iso(T), end=iso(T + pd.Timedelta(SPAN_S, 's')))
    names = [f'{function}({metric})' for metric in ('f', 'mixed') for function in functions]
    found = {
        labels: {row[0]: dict(zip(names, row[1:])) for row in rows} for labels, rows in rows_of(frames, names).items()
    }
    for labels in model.label_sets():
        buckets = {}
        for metric in ('f', 'mixed'):
            series = model.samples.get((labels, metric), {})
            for time_ns in sorted(series):
                bucket = T.value + (time_ns // 10**6 * 10**6 - T.value) // (step_s * 10**9) * step_s * 10**9
                buckets.setdefault(bucket, {}).setdefault(metric, []).append(float(series[time_ns]))
        got = found.pop(labels, {})
        assert sorted(got) == sorted(buckets)
        for bucket, by_metric in buckets.items():
            for metric in ('f', 'mixed'):
                values = by_metric.get(metric)
                want = [np.nan] * 6
                if values:
                    want = [len(values), sum(values), min(values), max(values), values[-1], sum(values) / len(values)]
                have = [got[bucket][f'{function}({metric})'] for function in functions]
                scale = max(map(abs, values)) if values else 1
                np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-12 * scale, equal_nan=True)
    assert found == {}


@pytest.mark.parametrize('policy', ['last', 'first'])
def test_a_table_is_what_its_writes_make_it(missing, policy):
    seed = SEED % 2**32
    print(f'FRAMESD_SEED={seed}')
    random = np.random.default_rng(seed)
    missing.create(duplicates=policy)
    model = Model(policy)
    for _ in range(40):
        random_write(random, missing, model)
        action = random.random()
        if action < 0.15:
            missing.client.execute('tsdb', missing.name, 'flush')
        elif action < 0.25:
            missing.client.execute('tsdb', missing.name, 'compact')
        if random.random() < 0.5:
            check_raw(random, missing, model)
        if random.random() < 0.2:
            check_aggregates(random, missing, model)
    missing.client.execute('tsdb', missing.name, 'compact')
    for _ in range(5):
        check_raw(random, missing, model)
    check_aggregates(random, missing, model)
