"""Reads of one tsdb table by the rules as they are documented: plain loops over dicts, simple and slow."""

import math
from collections import defaultdict
from dataclasses import dataclass

HOUR_MS = 3_600_000
NAN = math.nan


@dataclass(frozen=True)
class Column:
    """What a query asks for: a metric as it is, or a function of it over time or (`across`) over all series."""

    name: str
    metric: str
    function: str | None = None
    across: bool = False
    interpolator: str = 'next_val'
    tolerance_ms: int = 0


def ms_of(time_ns):
    return time_ns // 1_000_000


class Reference:
    def __init__(self, policy, partition_ms=48 * HOUR_MS):
        self.policy = policy
        self.partition_ms = partition_ms
        # (labels as sorted pairs, metric) → time in ns → value
        self.series = {}
        self.types = defaultdict(set)

    def put(self, labels, metric, time_ns, value):
        samples = self.series.setdefault((labels, metric), {})
        if self.policy == 'last' or time_ns not in samples:
            samples[time_ns] = value
        self.types[labels, metric].add(type(value))

    def delete(self, start_ms, end_ms, is_chosen):
        for (labels, metric), samples in self.series.items():
            if is_chosen(labels, metric):
                for time_ns in [t for t in samples if start_ms <= ms_of(t) <= end_ms]:
                    del samples[time_ns]

    def type_of(self, series):
        types = self.types[series]
        return next(kind for kind in (str, float, int, bool) if kind in types)

    def clamped(self, start_ms, end_ms, window_ms):
        """The range moved to the time partitions that hold samples; None: there are none."""
        size = self.partition_ms
        numbers = {ms_of(t) // size for samples in self.series.values() for t in samples}
        found = [n for n in numbers if (n + 1) * size > start_ms - window_ms and n * size <= end_ms]
        if not found:
            return None
        return max(start_ms, min(found) * size), min(end_ms, (max(found) + 1) * size - 1)

    def read(self, columns, start_ms, end_ms, step_ms=0, window_ms=0, is_chosen=lambda labels: True, group_by=()):
        """Frames as (labels, column names, rows of time in ns and cells). A cell is None where nothing is there."""
        bounds = self.clamped(start_ms, end_ms, window_ms)
        if bounds is None:
            return []
        start_ms, end_ms = bounds
        has_functions = any(column.function for column in columns)
        is_across = any(column.across for column in columns)
        is_raw = not has_functions and step_ms == 0
        if has_functions and step_ms == 0:
            step_ms = end_ms - start_ms or 1
        frames = defaultdict(lambda: defaultdict(list))
        for labels, metric in sorted(self.series):
            if not is_chosen(labels) or all(metric != column.metric for column in columns):
                continue
            key = tuple(pair for pair in labels if pair[0] in group_by) if group_by else () if is_across else labels
            frames[key][metric].append((labels, metric))
        answer = []
        for key in sorted(frames):
            cells, times = [], set()
            for column in columns:
                of = frames[key].get(column.metric, [])
                if is_raw:
                    values = own = self.raw(of, start_ms, end_ms)
                elif column.across or not has_functions:
                    values, own = self.at_steps(of, column, start_ms, end_ms, step_ms)
                else:
                    values, own = self.over_time(of, column, start_ms, end_ms, step_ms, window_ms)
                cells.append(values)
                times |= set(own)
            if times:
                at = (lambda t: t) if is_raw else (lambda bucket: (start_ms + bucket * step_ms) * 1_000_000)
                rows = [(at(t), *(values.get(t) for values in cells)) for t in sorted(times)]
                answer.append((key, [column.name for column in columns], rows))
        return answer

    def raw(self, of, start_ms, end_ms):
        found = {}
        for series in of:
            kind = self.type_of(series)
            found.update({t: kind(v) for t, v in self.series[series].items() if start_ms <= ms_of(t) <= end_ms})
        return found

    # Over time ----------------------------------------------------------------------------------------------------

    def over_time(self, of, column, start_ms, end_ms, step_ms, window_ms):
        """Bucket → result, and all buckets that have samples."""
        pooled = [
            (time_ns, number, self.type_of(series) is str, value)
            for number, series in enumerate(of)
            for time_ns, value in self.series[series].items()
            if ms_of(time_ns) <= end_ms
        ]
        buckets = defaultdict(list)
        for time_ns, _, is_text, value in sorted(pooled, key=lambda sample: sample[:2]):
            for bucket in buckets_of(ms_of(time_ns), start_ms, end_ms, step_ms, window_ms):
                buckets[bucket].append(None if is_text else float(value))
        if column.function is None:
            return self.at_steps(of, column, start_ms, end_ms, step_ms)[0], buckets
        return results(column.function, buckets, step_ms), buckets

    # At steps -----------------------------------------------------------------------------------------------------

    def at_steps(self, of, column, start_ms, end_ms, step_ms):
        """Step → value of the one series, or the function of all that have a value there; and all steps with values."""
        values = defaultdict(list)
        for series in of:
            if self.type_of(series) is not str:
                for step, value in sampled(self.series[series], column, start_ms, end_ms, step_ms):
                    values[step].append(value)
        if not column.across:
            return {step: found[0] for step, found in values.items()}, values
        return results(column.function, values, step_ms), values


def buckets_of(time_ms, start_ms, end_ms, step_ms, window_ms):
    count = (end_ms - start_ms) // step_ms + 1
    if window_ms == 0:
        return [(time_ms - start_ms) // step_ms] if time_ms >= start_ms else []
    first = max(0, -((start_ms - time_ms) // step_ms))
    last = min(count - 1, (time_ms + window_ms - start_ms) // step_ms)
    if window_ms == step_ms and (time_ms + window_ms - start_ms) % step_ms == 0:
        last = min(last, (time_ms + window_ms - start_ms) // step_ms - 1)
    return range(first, last + 1)


def results(function, buckets, step_ms):
    if function == 'rate':
        lasts = [(bucket, [v for v in values if v is not None]) for bucket, values in sorted(buckets.items())]
        lasts = [(bucket, values[-1]) for bucket, values in lasts if values]
        pairs = zip(lasts, lasts[1:])
        return {b: (last - before) / ((b - a) * step_ms / 1000) for (a, before), (b, last) in pairs}
    return {bucket: result(function, values) for bucket, values in buckets.items()}


def result(function, values):
    """values: in the order of time; None for text, which is counted and nothing else."""
    if function == 'count':
        return float(len(values))
    values = [value for value in values if value is not None]
    if not values:
        return NAN
    if function == 'last':
        return values[-1]
    if any(map(math.isnan, values)):
        return NAN
    if function in ('min', 'max'):
        return {'min': min, 'max': max}[function](values)
    total = math.fsum(values)
    if function == 'sum':
        return total
    if function == 'sqr':
        return math.fsum(v * v for v in values)
    mean = total / len(values)
    if function == 'avg':
        return mean
    if len(values) < 2:
        return NAN
    variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return variance if function == 'stdvar' else math.sqrt(variance)


def sampled(samples, column, start_ms, end_ms, step_ms):
    """(step, value) of one series, where it has a value."""
    order = sorted(samples)
    for step in range((end_ms - start_ms) // step_ms + 1):
        at_ms = start_ms + step * step_ms
        here = [t for t in order if ms_of(t) == at_ms]
        if here:
            yield step, float(samples[here[-1]])
            continue
        following = next((t for t in order if at_ms < ms_of(t) <= end_ms), None)
        if following is None:
            continue
        previous = next((t for t in reversed(order) if ms_of(t) < at_ms), None)
        is_near = ms_of(following) - at_ms <= column.tolerance_ms
        was_near = previous is not None and at_ms - ms_of(previous) <= column.tolerance_ms
        after = float(samples[following])
        if column.interpolator == 'nan':
            yield step, NAN
        elif column.interpolator == 'none' or (column.interpolator == 'next_val' and is_near):
            yield step, after
        elif column.interpolator == 'prev_val' and was_near:
            yield step, float(samples[previous])
        elif column.interpolator == 'linear' and was_near and is_near:
            before = float(samples[previous])
            share = (at_ms - ms_of(previous)) / (ms_of(following) - ms_of(previous))
            yield step, before + (after - before) * share
