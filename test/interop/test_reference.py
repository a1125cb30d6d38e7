"""Random tables and random requests, SQL and not, against `reference.py`. FRAMESD_SEED=n repeats a run."""

import math
import os
import time

import numpy as np
import pandas as pd
import pytest

from reference import Column, HOUR_MS, Reference
from tables import is_null

SEED = int(os.environ.get('FRAMESD_SEED', time.time_ns() % 2**32))
FUNCTIONS = ['count', 'sum', 'sqr', 'min', 'max', 'last', 'avg', 'stdvar', 'stddev', 'rate']
METRICS = {'cpu': float, 'mem': int, 'flag': bool, 'mix': None, 'note': str}
LABELS = [{'host': h, 'os': o} for h in 'ab' for o in ('linux', 'mac')] + [{'host': 'c', 'os': 'x,y=1'}]
PARTITION_MS = 48 * HOUR_MS
START_MS = 1_532_208_000_000 // PARTITION_MS * PARTITION_MS
CONDITIONS = {
    '': lambda labels: True,
    "host = 'a'": lambda labels: labels['host'] == 'a',
    "os != 'mac' AND NOT (host = 'b')": lambda labels: labels['os'] != 'mac' and labels['host'] != 'b',
    "host IN('a','c') OR starts(os,'x')": lambda labels: labels['host'] in 'ac',
}


class Case:
    """A table with and one without pre-aggregates, and what both are to be."""

    def __init__(self, random, table):
        self.random = random
        self.policy = self.pick(['last', 'last', 'first'])
        self.tables = [type(table)(table.client, f'{table.name}-{name}') for name in ('plain', 'summed')]
        for each, aggregates in zip(self.tables, ('', '*')):
            each.create(duplicates=self.policy, aggregates=aggregates, aggregation_granularity='10m')
        self.reference = Reference(self.policy)
        self.span_ms = self.pick([600_000, HOUR_MS, 96 * HOUR_MS])
        self.grid_ms = self.span_ms // self.pick([60, 600])

    def pick(self, choices):
        return choices[int(self.random.integers(len(choices)))]

    def chance(self, share):
        return self.random.random() < share

    def some(self, choices, most):
        return [choices[i] for i in self.random.permutation(len(choices))[: int(self.random.integers(1, most + 1))]]

    def time_ms(self, margin=0.0):
        steps = self.span_ms // self.grid_ms
        return START_MS + int(self.random.integers(-int(margin * steps), int((1 + margin) * steps) + 1)) * self.grid_ms

    def value(self, kind):
        if kind is str:
            return self.pick(['', 'a', "it's", 'ž'])
        number = int(self.random.integers(-20, 20))
        return number / 4 if kind is float else number > 0 if kind is bool else number

    def write(self):
        count = self.pick([1, 3, 30, 200])
        labels = self.pick(LABELS)
        times = [self.time_ms() * 1_000_000 + self.pick([0, 0, 999_999]) for _ in range(count)]
        columns = {}
        for metric in self.some(list(METRICS), 3):
            kind = METRICS[metric] or self.pick([int, float, bool])
            columns[metric] = [self.value(kind) for _ in range(count)]
            for time_ns, value in zip(times, columns[metric]):
                self.reference.put(tuple(sorted(labels.items())), metric, time_ns, value)
        index = pd.DatetimeIndex(np.array(times, 'datetime64[ns]'), tz='UTC', name='when')
        for table in self.tables:
            table.write(pd.DataFrame(columns, index=index), labels=labels)

    def delete(self):
        start, end = self.time_ms(), self.time_ms()
        metrics, condition = self.pick([None, ['cpu'], ['mem', 'nosuch']]), self.pick(['', "host = 'a'"])
        for table in self.tables:
            table.delete(start=str(start), end=str(end), metrics=metrics, filter=condition)
        holds = CONDITIONS[condition]
        self.reference.delete(
            start, end, lambda labels, metric: (metrics is None or metric in metrics) and holds(dict(labels))
        )

    def compact(self):
        self.pick(self.tables).client.execute('tsdb', self.pick(self.tables).name, self.pick(['compact', 'flush']))

    def range(self):
        start, end = sorted([self.time_ms(0.3), self.time_ms(0.3)])
        return (0 if self.chance(0.2) else start), (start if self.chance(0.1) else end + self.pick([0, 1, 999]))

    def request(self):
        """A request as the client sends it, without its table ({} in a query), and as the reference takes it."""
        mode = self.pick(['raw', 'over time', 'over time', 'across', 'steps', 'mixed'])
        start, end = self.range()
        step_s = self.pick([s for s in (1, 7, 60, 601, 86_400) if self.span_ms / 1000 / s < 700])
        step = 0 if mode == 'raw' or (mode != 'steps' and self.chance(0.2)) else step_s * 1000
        window = self.pick([0, 0, step, 3 * step, step // 2000 * 1000])
        condition = self.pick(list(CONDITIONS))
        group_by = self.pick([(), ('host',), ('os', 'host')]) if mode in ('over time', 'across') else ()
        text = lambda milliseconds: f'{milliseconds // 1000}s' if milliseconds else ''
        request = dict(start=str(start), end=str(end), step=text(step), aggregation_window=text(window))
        metrics = self.some([*METRICS, 'nosuch'], 3)
        functions = [None] if mode in ('raw', 'steps') else self.some(FUNCTIONS, 3)
        suffix = '_all' if mode == 'across' else ''
        if mode == 'mixed':
            functions.append(None)
        if self.chance(0.5):
            columns = [self.column(metric, function, mode, 2 * step) for metric in metrics for function in functions]
            aggregators = ','.join('' if function is None else function + suffix for function in functions)
            request.update(columns=metrics, aggregators=aggregators, group_by=','.join(group_by), filter=condition)
        else:
            columns, items = [], []
            for metric in metrics:
                interpolator, tolerance = self.pick([('none', 0), ('prev_val', 2 * step), ('linear', 600_000)])
                call = {
                    'none': metric,
                    'prev_val': f'PREV_VAL({metric})',
                    'linear': f"linear({metric}, '10m')",
                }[interpolator]
                for function in functions:
                    column = self.column(metric, function, mode, tolerance, interpolator)
                    alias = f'x{len(items)}' if self.chance(0.2) else column.name
                    item = call if function is None else f'{function}{suffix}({call})'
                    items.append(item if alias == column.name else f'{item} AS {alias}')
                    columns.append(Column(alias, metric, function, column.across, interpolator, tolerance))
            where = f' WHERE {condition}' if condition else ''
            grouped = f' GROUP BY {", ".join(group_by)}' if group_by else ''
            request['query'] = f"SELECT {', '.join(items)} FROM '{{}}'{where}{grouped}{self.pick(['', ';'])}"
        holds = CONDITIONS[condition]
        asked = dict(columns=columns, start_ms=start, end_ms=end, step_ms=step, window_ms=window, group_by=group_by)
        return request, {**asked, 'is_chosen': lambda labels: holds(dict(labels))}

    def column(self, metric, function, mode, tolerance_ms, interpolator='next_val'):
        name = metric if function is None else f'{function}({metric})'
        return Column(name, metric, function, mode == 'across', interpolator, tolerance_ms)

    def check(self):
        request, asked = self.request()
        expected = self.reference.read(**asked)
        is_raw = asked['step_ms'] == 0 and not any(column.function for column in asked['columns'])
        for table in self.tables:
            call = {**request, 'query': request['query'].format(table.name)} if 'query' in request else request
            frames = frames_of(table.raw(**call, max_rows_in_msg=self.pick([0, 0, 1, 7])))
            where = f'{call} of a table that keeps the {self.policy}'
            assert [frame[:2] for frame in frames] == [frame[:2] for frame in expected], where
            for (labels, names, rows), (_, _, wanted) in zip(frames, expected):
                assert [row[0] for row in rows] == [row[0] for row in wanted], (labels, where)
                for row, want in zip(rows, wanted):
                    same = all(map(is_same if is_raw else is_close, row[1:], want[1:]))
                    assert same, (labels, names, row, want, where)


def frames_of(messages):
    """(labels, names of value columns, rows), messages of one label set joined; a missing cell is None."""
    frames = []
    for message in messages:
        labels = tuple(sorted((name, value.sval) for name, value in message.labels().items()))
        names = [column.name for column in message.columns()][: len(message.columns()) - len(labels)]
        columns = [list(message.column_data(name)) for name in names]
        rows = [
            (time_ns, *(None if is_null(message, i, name) else cells[i] for name, cells in zip(names, columns)))
            for i, time_ns in enumerate(message.indices()[0].times)
        ]
        if frames and frames[-1][0] == labels:
            frames[-1][2].extend(rows)
        else:
            frames.append((labels, names, rows))
    return frames


def is_same(cell, want):
    return cell == want and type(cell) is type(want)


def is_close(cell, want):
    want = math.nan if want is None else want
    if math.isnan(want):
        return isinstance(cell, float) and math.isnan(cell)
    return math.isclose(cell, want, rel_tol=1e-11, abs_tol=1e-10)


@pytest.mark.parametrize('round', range(4))
def test_random_requests_are_answered_as_the_rules_say(missing, round):
    seed = (SEED + round) % 2**32
    print(f'FRAMESD_SEED={seed}')
    case = Case(np.random.default_rng(seed), missing)
    for _ in range(3):
        case.write()
    for _ in range(40):
        case.pick([case.write, case.delete, case.compact, case.check, case.check, case.check, case.check])()
