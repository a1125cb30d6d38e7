"""The rules of key-value tables, table by table, as protobuf messages that the client's DataFrames cannot say or show."""

import grpc
import pandas as pd
import pytest
import v3io_frames as v3f
from v3io_frames import frames_pb2 as pb
from v3io_frames import frames_pb2_grpc
from v3io_frames.grpc import write_stream

from tables import text_of

FIELDS = {pb.INTEGER: 'ints', pb.FLOAT: 'floats', pb.STRING: 'strings', pb.TIME: 'times', pb.BOOLEAN: 'bools'}
VALUES = {'long': 1, 'double': 1.5, 'string': 'x', 'timestamp': pd.Timestamp('2024-01-01T00:00:00Z'), 'boolean': True}


@pytest.fixture
def name(missing):
    return missing.name


@pytest.fixture
def write(client, name):
    def call(columns, keys=('a',), index='k', mode='updateItem', **kw):
        if isinstance(index, str):
            rows = pd.Index(list(keys), name=index)
        else:
            rows = pd.MultiIndex.from_tuples(keys, names=index)
        return client.write('kv', name, pd.DataFrame(columns, index=rows), save_mode=mode, **kw)

    return call


@pytest.fixture
def update(client, name):
    def call(key, expression, path='', **args):
        client.execute('kv', name + path, 'update', args={'key': key, 'expression': expression, **args})

    return call


@pytest.fixture
def shape(client, name):
    """Names of columns and of indices, in the order in which the server sends them; None: no frame at all."""

    def call(**kw):
        frames = [frame.raw_frame for frame in client.read('kv', name, get_raw=True, **kw)]
        if not frames:
            return None
        assert all(frame.columns for frame in frames)
        return [column.name for column in frames[0].columns], [index.name for index in frames[0].indices]

    return call


@pytest.fixture
def column(client, name):
    """Type and cells of one column, None for a null; the filler below a null is the one of its type."""

    def call(wanted, **kw):
        cells = []
        for frame in client.read('kv', name, get_raw=True, **kw):
            found = frame.column(wanted)
            values = list(getattr(found, FIELDS[found.dtype]))
            nulls = frame.raw_frame.null_values
            assert len(nulls) in (0, len(values))
            assert not nulls or any(row.nullColumns for row in nulls)
            names = set(frame.names())
            for row, null in enumerate(nulls):
                assert set(null.nullColumns) <= names
                if wanted in null.nullColumns:
                    assert not values[row] or values[row] != values[row]
                    values[row] = None
            cells += values
        return cells

    return call


def refusal(call):
    with pytest.raises(v3f.Error) as caught:
        call()
    return text_of(caught.value)


# Index rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'columns, reset, expected',
    [
        ([], False, (['x', 'y'], ['k', 's'])),
        (['*'], False, (['x', 'y'], ['k', 's'])),
        ([''], False, (['x', 'y'], ['k', 's'])),
        (['y', 'x'], False, (['x', 'y'], [])),
        (['x', 'k'], False, (['k', 'x'], ['_k'])),
        (['k'], False, (['k'], [])),
        (['x', 's'], False, (['s', 'x'], ['_s'])),
        (['s'], False, (['s'], [])),
        (['k', 's', 'x'], False, (['k', 's', 'x'], ['_k', '_s'])),
        (['__mtime_secs', '__gid', '__name', 'x'], False, (['x', '__name', '__gid', '__mtime_secs'], [])),
        ([], True, (['k', 's', 'x', 'y'], [])),
        (['x', 'k'], True, (['k', 'x'], [])),
    ],
)
def test_which_columns_are_indices(write, shape, columns, reset, expected):
    write({'x': [1], 'y': [2]}, [('a', 'b')], index=['k', 's'])
    assert shape(columns=columns, reset_index=reset) == expected


def test_a_table_of_keys_alone_has_its_key_as_a_column(client, name, update, shape):
    update('a', "id = 'a'")
    client.execute('kv', name, 'infer')
    assert shape() == (['id'], [])


def test_unknown_columns_are_named_with_and_without_items(client, name, write):
    write({'x': [1]})
    read = lambda: client.read('kv', name, columns=['x', 'b', 'a'])
    assert refusal(read).startswith("error during iteration: column 'b' doesn't exist")
    client.delete('kv', name, filter='1 == 1')
    assert "column 'b' doesn't exist" in refusal(read)
    assert client.read('kv', name).empty


# Schema --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('mode', ['updateItem', 'overwriteItem', 'createNewItemsOnly'])
def test_how_types_meet_in_the_schema(client, name, write, column, mode):
    for old, value in VALUES.items():
        write({'x': [value]}, mode='overwriteTable')
        for new, other in VALUES.items():
            call = lambda: write({'x': [other]}, ['b'], mode=mode)
            if new == old or (old, new) == ('double', 'long'):
                call()
            elif (old, new) != ('long', 'double'):
                text = f'failed to merge schema: schema change for column x from type {old} to {new} is not allowed'
                assert text in refusal(call)
        assert len(column('x')) == 2
    write({'x': [1]}, mode='overwriteTable')
    write({'x': [2.5]}, ['b'], mode=mode)
    assert column('x') == [1.0, 2.5]
    assert client.read('kv', name, filter='x >= 1')['x'].tolist() == [1.0, 2.5]


def test_keys_of_a_table_do_not_change(write):
    write({'x': [1]})
    prefix = 'failed to merge schema: changing'
    assert f'{prefix} primary key is not allowed, old: k, new:q' in refusal(lambda: write({'x': [1]}, index='q'))
    text = refusal(lambda: write({'x': [1]}, [('a', 'b')], index=['k', 's']))
    assert f'{prefix} sorting key is not allowed, old: , new:s' in text


def test_one_index_is_not_enough_for_a_table_with_a_sorting_key(write, column):
    write({'x': [1]}, [('a', 'b')], index=['k', 's'])
    assert "the table has the sorting key 's'" in refusal(lambda: write({'x': [2]}))
    # A data column of that name will do.
    write({'x': [2], 's': ['c']})
    assert column('__name', columns=['__name']) == ['a.b', 'a.c']


def test_attributes_that_the_schema_lacks_and_types_that_differ_do_not_make_a_read_fail(write, update, column, shape):
    write({'x': [1, 2]}, ['a', 'b'])
    update('c', "x = 2.5; zz = 1; aa = 'new'")
    assert shape() == (['x', 'aa', 'zz'], ['k'])
    assert column('x') == [1.0, 2.0, 2.5]
    assert column('zz') == [None, None, 1]
    update('d', "x = 'text'")
    update('e', 'x = true')
    update('f', 'x = 1:5')
    assert column('x') == ['1', '2', '2.5', 'text', 'true', '1970-01-01T00:00:01.000000005Z']
    assert column('k', filter='x > 1', columns=['k']) == ['b', 'c']


# Names, keys, partitions ---------------------------------------------------------------------------------------------

ODD = ['a b', 'a/b', '%41', '?x', 'k=v', '.', '..', '.#schema', 'a.b.c', '"', '日本', '../../etc', '\\', 'a\nb', 'x' * 10_000, '\0', ' ', '.a', 'a.', '/', '/a']  # fmt: skip


def test_any_text_is_a_key_and_never_a_path(client, name, write, update, column):
    write({'n': range(len(ODD))}, ODD)
    by_bytes = sorted(ODD, key=lambda text: text.encode())
    assert column('k', columns=['k']) == by_bytes
    assert column('__name', columns=['__name']) == by_bytes
    for key in ODD:
        update(key, 'n = n + 100', condition='exists(n)')
    assert sorted(column('n')) == [100 + i for i in range(len(ODD))]
    client.delete('kv', name, filter="__name IN ('..', '.#schema')")
    assert len(column('n')) == len(ODD) - 2


def test_any_text_is_a_partition(client, name, write, column):
    odd = ['a/b', '..', 'c=d', '.', 'null', '', 'a/c=1']
    write({'s': odd, 'n': range(len(odd))}, ['k'] * len(odd), partition_keys=['s'])
    assert sorted(column('s')) == sorted(odd)
    for number, text in enumerate(odd):
        assert column('n', filter=f"s == '{text}'") == [number]


def test_folders_of_partitions(write, update, column):
    rows = {'f': [1.0, -0.25], 'b': [True, None], 't': pd.to_datetime(['2018-01-01T00:00:00.123Z', None]).as_unit('ns')}
    write(rows, ['mike', 'joe'], partition_keys=['f', 'b', 't'])
    update('mike', 'n = 1', path='/f=1/b=true/t=2018-01-01T00:00:00.123Z', condition='exists(k)')
    update('joe', 'n = 2', path='/f=-0.25/b=null/t=null', condition='exists(k)')
    assert sorted(column('n')) == [1, 2]


@pytest.mark.parametrize('keys, name_text, key', [([1], '77', 77), ([1.5], '2.5', 2.5), ([True], 'False', False), (['a'], 'b', 'b')])  # fmt: skip
def test_the_name_stands_in_for_a_key_that_an_item_lacks(write, update, column, keys, name_text, key):
    write({'x': [1]}, keys)
    update(name_text, 'x = 2')
    assert set(column('k', columns=['k'])) == {keys[0], key}


# Templates -----------------------------------------------------------------------------------------------------------


def test_a_placeholder_that_the_frame_lacks_is_an_error_and_skips_no_row(write, column):
    write({'n': [1]})
    text = refusal(lambda: write({'n': [2]}, condition='{m} == 1 OR 1 == 1'))
    assert "can't add frame: invalid condition expression: " in text
    text = refusal(lambda: write({'n': [2]}, expression='n = {m}'))
    assert "can't add frame: invalid update expression: " in text
    assert column('n') == [1]


@pytest.mark.parametrize('condition, is_true', [
    ("i == {ri} AND f == {rf} AND s == {rs} AND b == {rb} AND t == {rt}", True),
    ("starts({rs}, 'aaa') AND {ri} == 3", False),
    ("{k} == 'a' AND __name == {k}", True),
    ('missing == 1', False), ('missing != 1', False), ('NOT (missing == 1)', True),
    ("i != 'x'", False), ('i / 0 == 1', False), ('b', True), ('i AND b', False),
    ('{none} == 0', False), ('NOT ({none} == 0)', True),
])  # fmt: skip
def test_conditions(write, column, condition, is_true):
    t = VALUES['timestamp']
    write({'i': [40], 'f': [1.5], 's': ["it's"], 'b': [True], 't': [t], 'done': [0]})
    row = {'ri': [40], 'rf': [1.5], 'rs': ["it's"], 'rb': [True], 'rt': [t], 'none': [None], 'done': [1]}
    write(row, condition=condition)
    assert column('done') == [int(is_true)]


def test_without_an_index_frames_of_an_update_count_their_rows_from_the_start(client, name):
    client.write('kv', name, pd.DataFrame({'n': [0, 0]}))
    frames = [pd.DataFrame({'d': [1, 10]}) for _ in range(5)]
    client.write('kv', name, frames, save_mode='updateItem', expression='n = n + {d}')
    assert client.read('kv', name)['n'].tolist() == [5, 50]


# Limits, keys to look for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize('more', [{}, {'filter': 'n >= 100'}, {'max_rows_in_msg': 7}])
def test_limits_count_rows_and_markers_go_on_where_they_ended(client, name, write, column, more):
    write({'n': range(300), 'c': [str(i % 3) for i in range(300)]}, [str(i) for i in range(300)], partition_keys=['c'])
    every = column('n', **more)
    assert len(every) == (200 if 'filter' in more else 300)
    assert column('n', limit=len(every), **more) == every
    found, marker = [], ''
    while True:
        frames = [frame for frame in client.read('kv', name, get_raw=True, limit=70, marker=marker, **more)]
        assert all('next_marker' not in frame.labels() for frame in frames[:-1])
        rows = [value for frame in frames for value in frame.column_data('n')]
        found += rows
        if 'next_marker' not in frames[-1].labels():
            break
        assert len(rows) == 70
        marker = frames[-1].labels()['next_marker'].sval
    assert found == every


@pytest.mark.parametrize('more, sorting_keys', [
    ({}, ['1', '10', '2', 'x.y']),
    ({'sort_key_range_start': '10', 'sort_key_range_end': '2'}, ['10']),
    ({'sort_key_range_start': '10'}, ['10', '2', 'x.y']),
    ({'sort_key_range_end': '10'}, ['1']),
    ({'sort_key_range_start': 'x.y'}, ['x.y']),
])  # fmt: skip
def test_sharding_keys_and_ranges_of_sorting_keys(write, column, more, sorting_keys):
    write({'n': range(8)}, [(k, s) for k in 'ab' for s in ('1', '10', '2', 'x.y')], index=['k', 's'])
    assert column('s', columns=['k', 's'], sharding_keys=['b', 'nobody'], **more) == sorting_keys
    assert len(column('n', **more)) == 8


# Infer ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('items, expected', [
    ({'rocky': "name='rocky';age=2", 'mocha': "name='mocha';age=3"}, ['name']),
    ({'rocky.dog': "name='rocky';animal='dog';age=2", 'mocha.cat': "name='mocha';animal='cat';age=3"}, ['name', 'animal']),
    ({'rock.y': "name='rock.y';suffix='y'", 'moch.a': "name='moch.a';suffix='a'"}, ['name']),
    ({'1.dog': "id=1;animal='dog';age=2", '2.dog': "id=2;animal='dog';age=2"}, ['id', 'animal']),
    ({'rocky_2.dog': "name='rocky';animal='dog';age=1", 'mocha_4.cat': "name='mocha';animal='cat';age=1"}, ['name', 'animal']),
    ({'rocky_2.dog': "name='rocky_2';animal='dog';age=1"}, ['name', 'animal']),
])  # fmt: skip
def test_what_infer_finds(client, name, update, shape, items, expected):
    for key, expression in items.items():
        update(key, expression)
    assert 'Failed to find a schema for table' in refusal(lambda: client.read('kv', name))
    client.execute('kv', name, ' InferSchema ')
    assert shape()[1] == expected


def test_why_infer_finds_nothing(client, name, update):
    infer = lambda **args: refusal(lambda: client.execute('kv', name, 'infer', args=args))
    update('a', "name='a'; second_name='a'; v='s'")
    cause = "could not determine which column is the table's primary-key attribute, because"
    assert f"{cause} 2 columns (name, second_name) match the primary-key attribute" in infer()
    assert 'v is not one of the optional key columns' in infer(key='v')
    update('b', 'v = 1')
    assert "type 'string' of value 's' doesn't match type 'int' of value '1' for column 'v'." in infer()
    client.delete('kv', name, filter='1 == 1')
    update('c', 'x = 1')
    assert f'{cause} no column matches the primary-key attribute' in infer()


# Filters -------------------------------------------------------------------------------------------------------------

TRUE = """age == 40.0|(age > 18) AND ok==true|ok == True|starts(name, 'Jo') and NOT(name IN ('A','B'))|ends(name,'now')
NOT (missing == 1)|exists(w) AND NOT exists(zip)|t < 1559668666:0|arr[2] + arr[3] == 6|max(arr) == 13
max(arr[2..3]) == 5|length(arr) == 4|length(arr[2..3]) == 2|max(age, w) == 40.0|age = 40|age <> 41|`age` == 40
if_else(age > 18, 'adult', 'minor') == 'adult'|age NOT IN (1, 2)|1==1|max(1==1, 0) == true|length('abc' + 'efg') == 6
age/7 == 5|age % 7 == 5|w > -inf|min(1, 9.0) == 1.0|__name == 'jon'|name == "Jon Snow\""""
FALSE = """age == '40'|age != '40'|contains(name,'snow')|missing == 1|missing != 1|AGE == 40|t == 1559668665|age / 0 != 1
arr[9] == 1|starts(age, '4')|starts(missing, 'a')|__name == '.#schema'|nan == nan|length(missing) == 0"""
WRONG = """age && ok|!ok|exists(1)|foo(age)|starts(name)|age ==|(age == 40|age == 40)|name == 'a|age IN ()|age == 40 == true
delete(age)|age = 1; w = 2|{age} == 40|1:1000000000 == t|arr[1|and"""


def lines(texts):
    return texts.replace('\n', '|').split('|')


def test_filters(client, name, write, update):
    t = pd.Timestamp('2019-06-04T17:17:45Z')
    write({'name': ['Jon Snow'], 'age': [40], 'w': [1.5], 'ok': [True], 't': [t]}, ['jon'])
    update('jon', "arr = init_array(4, 'int'); arr[0] = 7; arr[1] = 13; arr[2] = 5; arr[3] = 1")
    rows = {text: len(client.read('kv', name, filter=text)) for text in lines(TRUE) + lines(FALSE)}
    assert [text for text, count in rows.items() if count != (text in lines(TRUE))] == []
    for text in lines(WRONG):
        assert 'invalid filter expression: ' in refusal(lambda: client.read('kv', name, filter=text)), text
        assert 'invalid filter expression: ' in refusal(lambda: client.delete('kv', name, filter=text)), text
    assert client.read('kv', name)['age'].tolist() == [40]


# Bad frames ----------------------------------------------------------------------------------------------------------


def frame_of(columns, indices=(('k', ['a']),)):
    as_column = lambda name, texts: pb.Column(name=name, dtype=pb.STRING, strings=texts)
    return pb.Frame(columns=[as_column(*c) for c in columns], indices=[as_column(*i) for i in indices])


# Over the one protocol: the client builds no such frames, so they are sent past it.
@pytest.mark.parametrize('protocol', ['grpc'])
@pytest.mark.parametrize('columns, indices, text', [
    ([], [('k', ['a'])], 'empty frame'),
    ([('x', ['v'])], [('k', ['a']), ('l', ['a']), ('m', ['a'])], 'can only write up to two indices'),
    ([('x', ['v']), ('', ['v'])], [('k', ['a'])], 'column number 1 has an empty name'),
    ([('é', ['v'])], [('k', ['a'])], "column 'é' has an invalid name"),
    ([('1a', ['v'])], [('k', ['a'])], "column '1a' has an invalid name"),
    ([('x', ['v'])], [('a-b', ['a'])], "index 'a-b' has an invalid name"),
    ([('x' * 257, ['v'])], [('k', ['a'])], ' exceeding maximum allowed attribute name of 256'),
    ([('x', ['v'])], [('k', [''])], 'invalid input. key "k" should not be empty'),
    ([('x', ['v'])], [('k', ['a']), ('s', [''])], 'invalid input. sorting key "s" should not be empty'),
])  # fmt: skip
def test_bad_frames_are_refused_and_make_no_table(client, name, columns, indices, text):
    session = pb.Session(container=client.session.container)
    request = pb.InitialWriteRequest(session=session, backend='kv', table=name)
    with grpc.insecure_channel(client.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            frames_pb2_grpc.FramesStub(channel).Write(write_stream(request, [frame_of(columns, indices)]))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith("can't add frame: ")
    assert text in caught.value.details()
    assert f'"/{client.session.container}/{name}"' in refusal(lambda: client.read('kv', name))
    # The table's name as the caller writes it.
    assert f'"/{client.session.container}/{name}/"' in refusal(lambda: client.read('kv', f'{name}/'))
