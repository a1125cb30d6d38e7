"""Filters pick series by their labels and by the metric's name."""

import pandas as pd
import pytest

from tables import T, iso, rows


@pytest.fixture
def nodes(table):
    index = pd.MultiIndex.from_tuples(
        [(T, '1', 'linux', 'europe'), (T, '2', 'mac', 'europe'), (T, '3', 'linux', 'americas'), (T, '4', 'linux', 'asia')],
        names=['time', 'node', 'os', 'region'],
    )
    table.write(pd.DataFrame({'cpu': [1, 2, 3, 4], 'mem': [10, 20, 30, 40]}, index=index))
    table.write(pd.DataFrame({'cpu': [5]}, index=pd.DatetimeIndex([T], name='time')), labels={'node': '5', 'rack': "it's"})
    return table


@pytest.mark.parametrize(
    'filter, expected',
    [
        ("node == '1'", [1]),
        ('node == "1"', [1]),
        ("node=='1'", [1]),
        ('node == 1', []),
        ("os == 'linux'", [1, 3, 4]),
        ("os != 'linux'", [2]),
        ("os == 'linux' AND region == 'asia'", [4]),
        ("os=='mac' OR region=='americas'", [2, 3]),
        ("NOT (os == 'linux')", [2, 5]),
        ("node IN('1', '4')", [1, 4]),
        ("node IN ('1','4') and os=='linux' and (region=='asia' or region=='none')", [4]),
        ("node > '3'", [4, 5]),
        ('exists(rack)', [5]),
        ('not exists(rack)', [1, 2, 3, 4]),
        ("starts(region, 'a')", [3, 4]),
        ('1==1', [1, 2, 3, 4, 5]),
        ('', [1, 2, 3, 4, 5]),
        ("nosuch == 'x'", []),
    ],
)
def test_a_filter_picks_label_sets(nodes, filter, expected):
    df = nodes.read(columns=['cpu'], filter=filter)
    assert sorted(df['cpu'].tolist() if len(df) > 0 else []) == expected
    df = nodes.read(columns=['cpu'], filter=filter, aggregators='sum', start=iso(T), end=iso(T))
    assert sorted(df['sum(cpu)'].tolist() if len(df) > 0 else []) == expected


@pytest.mark.parametrize('name', ['_name', '__name__'])
def test_the_metric_is_an_attribute_of_its_series(nodes, name):
    df = nodes.read(filter=f"{name} == 'mem' and os == 'linux'")
    assert sorted(df.columns) == ['mem', 'node', 'os', 'region']
    assert sorted(df['mem'].tolist()) == [10, 30, 40]


def test_columns_and_filter_are_both_kept_to(nodes):
    assert rows(nodes.read(columns=['mem'], filter="node == '2'")) == [(T, 20, '2', 'mac', 'europe')]
    assert nodes.read(columns=['mem'], filter="node == '5'").empty


def test_a_filter_that_cannot_be_parsed_is_refused(nodes):
    for filter in ("node == '1", 'node ==', 'node === 1', ')', "node == '1' garbage"):
        with nodes.refuses('read', ''):
            nodes.read(filter=filter)
