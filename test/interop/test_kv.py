"""Key-value tables through the published client: save modes, conditions, expressions, nulls, keys, deletes, commands."""

import threading

import grpc
import numpy as np
import pandas as pd
import pytest
import requests
import v3io_frames as v3f

from tables import ALREADY_EXISTS, INVALID_ARGUMENT, NOT_FOUND, code_of, text_of

FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


def instants(*texts):
    return pd.DatetimeIndex([pd.Timestamp(text) for text in texts]).as_unit('ns')


@pytest.fixture
def name(missing):
    return missing.name


@pytest.fixture
def write(client, name):
    def call(columns, keys, index='id', **kw):
        df = pd.DataFrame(columns, index=pd.Index(keys, name=index))
        return client.write('nosql', name, df, **kw)

    return call


@pytest.fixture
def items(client, name):
    """All items by key: a dict of the attributes that each has."""

    def call(**kw):
        df = client.read('kv', name, **kw)
        found = {}
        for key, row in zip(df.index.tolist(), df.to_dict('records')):
            found[key] = {column: value for column, value in row.items() if not pd.isna(value)}
        return found

    return call


@pytest.fixture
def refuses():
    def check(text, call, code=None):
        with pytest.raises(v3f.Error) as caught:
            call()
        assert text in text_of(caught.value), text_of(caught.value)
        assert code is None or code_of(caught.value) in (None, code)

    return check


def everything():
    return pd.DataFrame(
        {
            'int': [1, 2**53 + 1, -(2**63)],
            'float': [1.5, 1e-300, -2.0],
            'text': ['', 'ünïcödé 😀', "it's"],
            'bool': [True, False, True],
            'time': instants('1969-12-31T23:59:59.999999999Z', '2018-07-21T21:40:00Z', '2262-01-01T00:00:00Z'),
        },
        index=pd.Index(['a', 'b', 'c'], name='key'),
    )


def test_all_types_are_read_back_as_written(client, name):
    client.write('nosql', name, everything())
    df = client.read('nosql', name)
    assert df.index.name == 'key'
    assert df.index.tolist() == ['a', 'b', 'c']
    expected = everything()
    for column in expected.columns:
        assert df[column].tolist() == expected[column].tolist(), column
    assert df['int'].dtype == np.int64


def test_both_protocols_see_the_same_items(client, other_client, name):
    client.write('kv', name, everything())
    assert other_client.read('kv', name).equals(client.read('kv', name))


def test_nulls_of_every_type_are_read_back_as_nulls(client, name):
    df = everything()
    typed = pd.DataFrame(
        {
            'float': [1.5, None, -2.0],
            'nothing': [None, None, None],
            'text': ['', None, "it's"],
            'bool': [True, None, False],
            'time': df['time'].where([True, False, True]).tolist(),
            'full': [1, 2, 3],
        },
        index=df.index,
    )
    client.write('nosql', name, typed, save_mode='updateItem')
    found = client.read('nosql', name)
    # A column of nulls alone is no attribute of any item.
    assert found.loc['b'].isna().to_dict() == {'float': True, 'text': True, 'bool': True, 'time': True, 'full': False}
    assert found.loc['a', 'text'] == ''
    assert found['full'].tolist() == [1, 2, 3]
    assert found.loc['c', 'float'] == -2.0


def test_times_of_other_zones_are_the_same_instants(write, items):
    local = pd.Timestamp('2024-03-31T02:30:00', tz='America/New_York')
    write({'t': [local]}, ['a'])
    assert items()['a']['t'] == local.tz_convert('UTC')


def test_the_default_mode_of_the_client_makes_new_items_only(write, items):
    write({'x': [1, 2]}, ['a', 'b'])
    write({'x': [9, 9]}, ['b', 'c'])
    assert items() == {'a': {'x': 1}, 'b': {'x': 2}, 'c': {'x': 9}}


def test_update_item_sets_removes_and_keeps(write, items):
    write({'x': [1.0, 2.0], 'y': ['a', 'b']}, ['a', 'b'])
    write({'x': [5.0, None]}, ['a', 'b'], save_mode='updateItem')
    assert items() == {'a': {'x': 5.0, 'y': 'a'}, 'b': {'y': 'b'}}


def test_overwrite_item_replaces(write, items):
    write({'x': [1], 'y': ['a']}, ['a'])
    write({'y': ['b']}, ['a'], save_mode='overwriteItem')
    assert items() == {'a': {'y': 'b'}}


def test_overwrite_table_replaces_table_and_schema(write, items):
    write({'x': [1]}, ['a'])
    write({'x': ['text']}, [7], index='other', save_mode='overwriteTable')
    assert items() == {7: {'x': 'text'}}


def test_error_if_table_exists(write, refuses, name):
    write({'x': [1]}, ['a'], save_mode='errorIfTableExists')
    text = f"table '{name}/' already exists; either use a differnet save mode or save to a different table"
    refuses(text, lambda: write({'x': [1]}, ['a'], save_mode='errorIfTableExists'), ALREADY_EXISTS)


def test_unknown_modes_are_refused(write, refuses):
    refuses("no save mode named 'replace'", lambda: write({'x': [1]}, ['a'], save_mode='replace'))


def test_http_says_how_many_rows_were_skipped(client, write, protocol):
    write({'x': [1, 2]}, ['a', 'b'])
    reply = write({'x': [5, 6, 7]}, ['b', 'c', 'a'], save_mode='updateItem', condition='x < 2')
    if protocol == 'http':
        assert reply == {'num_frames': 1, 'num_rows': 3, 'num_skipped': 2}


def test_conditions_see_the_stored_item_and_the_row(write, items):
    write({'version': [1, 5], 'v': ['old', 'old']}, ['a', 'b'])
    write({'version': [3, 3], 'v': ['new', 'new']}, ['a', 'b'], save_mode='updateItem', condition='{version} > version')
    assert items() == {'a': {'version': 3, 'v': 'new'}, 'b': {'version': 5, 'v': 'old'}}


def test_quotes_in_values_do_not_change_a_condition(write, items):
    evil = "' OR 1==1 OR 'a'=='a"
    write({'s': ['x']}, ['a'])
    write({'s': [evil]}, ['a'], save_mode='updateItem', condition='s == {s}')
    assert items() == {'a': {'s': 'x'}}


def test_update_expressions(write, items):
    write({'n1': [1, 2], 'n2': [10, 20]}, ['a', 'b'])
    write({'d': [100, 200]}, ['a', 'b'], save_mode='updateItem', expression='n3 = n1 + n2 + {d}; delete(n1);')
    assert items() == {'a': {'n2': 10, 'n3': 111}, 'b': {'n2': 20, 'n3': 222}}


def test_an_expression_that_fails_stores_nothing(write, items, refuses):
    write({'n': [1, 2]}, ['a', 'b'])
    call = lambda: write({'d': [0, 1]}, ['a', 'b'], save_mode='updateItem', expression='n = n / {d}')
    refuses("failed to update item 'a': division by zero", call, FAILED_PRECONDITION)
    assert items() == {'a': {'n': 1}, 'b': {'n': 2}}


def test_bad_templates_are_refused_at_once(write, refuses):
    refuses('invalid condition expression: ', lambda: write({'d': [0]}, ['a'], condition='d ='), INVALID_ARGUMENT)
    refuses('invalid update expression: ', lambda: write({'d': [0]}, ['a'], expression='d == 1'), INVALID_ARGUMENT)


@pytest.mark.parametrize(
    'keys, names',
    [
        ([True, False], ['False', 'True']),
        ([-1, 2**63 - 1], ['-1', '9223372036854775807']),
        ([1.0, 1.5, 1e22], ['1.0', '1.5', '10000000000000000000000.0']),
        (['a/b', 'ünïcödé', "it's"], ['a/b', "it's", 'ünïcödé']),
        (instants('2018-01-01T00:00:00.123Z'), ['2018-01-01T00:00:00.123Z']),
    ],
)
def test_item_names_follow_from_keys(client, name, write, keys, names):
    write({'x': range(len(keys))}, keys)
    assert sorted(client.read('kv', name, columns=['__name'])['__name']) == names
    assert sorted(client.read('kv', name).index.tolist()) == sorted(keys)


def test_two_indices_are_key_and_sorting_key(client, name):
    index = pd.MultiIndex.from_tuples([('mike', 2), ('mike', 10), ('joe', 1)], names=['user', 'n'])
    df = pd.DataFrame({'x': [1, 2, 3]}, index=index)
    client.write('kv', name, df)
    found = client.read('kv', name)
    assert found.index.names == ['user', 'n']
    assert sorted(found.index.tolist()) == sorted(index.tolist())
    assert sorted(client.read('kv', name, columns=['__name'])['__name']) == ['joe.1', 'mike.10', 'mike.2']


def test_rows_without_an_index_are_numbered_over_all_frames(client, name):
    df = pd.DataFrame({'x': list('abcdef')})
    client.write('kv', name, df, max_rows_in_msg=2)
    found = client.read('kv', name)
    assert found.index.name == 'idx'
    assert found['x'].to_dict() == dict(enumerate('abcdef'))


def test_partitions_are_read_as_one_table(client, name, items):
    df = pd.DataFrame({'city': ['LA', 'NY', 'LA'], 'n': [1, 2, 3]}, index=pd.Index(['a', 'a', 'b'], name='id'))
    client.write('kv', name, df, partition_keys=['city'])
    found = client.read('kv', name)
    assert sorted(zip(found.index, found['city'], found['n'])) == [('a', 'LA', 1), ('a', 'NY', 2), ('b', 'LA', 3)]
    client.execute('kv', f'{name}/city=NY', 'update', args={'key': 'a', 'expression': 'n = n + 10'})
    assert sorted(client.read('kv', name)['n']) == [1, 3, 12]
    client.delete('kv', name, filter="city == 'LA'")
    assert sorted(client.read('kv', name)['n']) == [12]


def test_labels_are_attributes_of_every_row(write, items):
    write({'x': [1, 2]}, ['a', 'b'], labels={'place': 'here'})
    assert items() == {'a': {'x': 1, 'place': 'here'}, 'b': {'x': 2, 'place': 'here'}}


def test_an_empty_dataframe_makes_the_table(client, name):
    client.write('kv', name, pd.DataFrame({'x': pd.Series([], dtype='int64')}, index=pd.Index([], name='id', dtype='int64')))
    assert client.read('kv', name).empty


@pytest.mark.parametrize(
    'columns, keys, index, text',
    [
        ({'x': ['text']}, ['a'], 'id', 'schema change for column x from type long to string is not allowed'),
        ({'x': [1]}, ['a'], 'other', 'changing primary key is not allowed, old: id, new:other'),
        ({'a b': [1]}, ['a'], 'id', "column 'a b' has an invalid name"),
        ({'x': [1]}, [''], 'id', 'invalid input. key "id" should not be empty'),
    ],
)
def test_what_does_not_fit_is_refused(write, items, refuses, columns, keys, index, text):
    write({'x': [1]}, ['k'])
    refuses(f"can't add frame: {'failed to merge schema: ' if 'not allowed' in text else ''}{text}",
            lambda: write(columns, keys, index=index, save_mode='updateItem'), INVALID_ARGUMENT)  # fmt: skip
    assert items() == {'k': {'x': 1}}


@pytest.mark.parametrize('backend', ['kv', 'nosql'])
def test_delete(client, name, write, items, refuses, backend):
    write({'x': [1, 2, 3]}, ['a', 'b', 'c'])
    client.delete(backend, name, filter='x >= 2')
    assert items() == {'a': {'x': 1}}
    client.delete(backend, name)
    refuses('Failed to find a schema for table', lambda: client.read('kv', name), NOT_FOUND)
    text = f"GetItems failed during recursive delete of '{name}/'.: "
    refuses(text, lambda: client.delete(backend, name), NOT_FOUND)
    client.delete(backend, name, if_missing=v3f.IGNORE)


def test_execute_update(client, name, write, items, refuses):
    write({'n': [1]}, ['a'])
    client.execute('kv', name, 'update', args={'key': 'a', 'expression': "n = n + 1; s = 'x'"})
    assert items() == {'a': {'n': 2, 's': 'x'}}
    args = {'key': 'a', 'expression': 'n = 0', 'condition': 'n > 5'}
    refuses('the condition is false', lambda: client.execute('kv', name, 'update', args=args), FAILED_PRECONDITION)
    text = "missing a required parameter - 'table', 'expression', and/or 'key' argument"
    refuses(text, lambda: client.execute('kv', name, 'update', args={'key': 'a'}))
    text = "NoSQL backend doesn't support execute command 'drop'"
    refuses(text, lambda: client.execute('kv', name, 'drop'))


def test_create_is_not_needed(client, name, refuses):
    text = "'create' isn't required for the NoSQL backend; the table is created on first write"
    refuses(text, lambda: client.create('kv', name), FAILED_PRECONDITION)


def test_create_with_a_schema_types_the_table(client, name, write, protocol, refuses):
    fields = [{'name': 'id', 'type': 'string'}, {'name': 'x', 'type': 'double'}]
    if protocol == 'grpc':
        schema = v3f.Schema(fields=[v3f.SchemaField(**field) for field in fields], key=v3f.SchemaKey(sharding_key=['id']))
        client.create('kv', name, schema=schema)
    else:
        schema = {'fields': fields, 'key': {'sharding_key': ['id']}}
        request = {'session': {'container': client.session.container}, 'backend': 'kv', 'table': name, 'schema': schema}
        assert requests.post(client.address + '/create', json=request).ok
    refuses('from type double to string', lambda: write({'x': ['text']}, ['a']))
    write({'x': [1]}, ['a'])
    assert client.read('kv', name)['x'].tolist() == [1.0]


def test_a_container_is_needed(address, refuses):
    client = v3f.Client(address, container='')
    df = pd.DataFrame({'x': [1]}, index=pd.Index(['a'], name='id'))
    refuses('Please specify a data container name', lambda: client.write('kv', 'table', df))


def test_many_writers_lose_no_update(address, client, name, write):
    write({'n': [0]}, ['x'])

    def add():
        own = v3f.Client(address, container=client.session.container)
        for _ in range(5):
            df = pd.DataFrame({'d': [1] * 20}, index=pd.Index(['x'] * 20, name='id'))
            own.write('kv', name, df, save_mode='updateItem', expression='n = n + {d}')

    writers = [threading.Thread(target=add) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert client.read('kv', name)['n'].tolist() == [400]
