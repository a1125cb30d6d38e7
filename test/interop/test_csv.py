"""CSV files: written, read, appended, removed by the published client."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import v3io_frames as v3f

from tables import text_of, times


@pytest.fixture
def name(missing):
    return missing.name.replace('/', '-') + '.csv'


@pytest.fixture
def folder():
    """Where the server keeps the files; run.mjs says where its data folder is."""
    return Path(os.environ['FRAMESD_DATA']) / 'csv'


def frame():
    return pd.DataFrame(
        {
            'int': [1, 2**53 + 1, -(2**63)],
            'float': [1.5, 1e-7, -2.0],
            'text': ['a', 'b,"c"', 'two\nlines é'],
            'bool': [True, False, True],
            'time': times('1ns', '-18000d', '1500ms'),
        }
    )


@pytest.fixture
def refuses():
    """refuses(error, text, call): the call raises the error, which has the text in it."""

    def check(error, text, call):
        with pytest.raises(error) as caught:
            call()
        assert text in text_of(caught.value)

    return check


def test_what_is_written_is_read_back_with_its_types(client, name):
    client.write('csv', name, frame())
    got = client.read('csv', name)
    wanted = frame()
    assert list(got.columns) == sorted(wanted.columns)
    for column in wanted.columns:
        assert got[column].tolist() == wanted[column].tolist()
    assert got['int'].dtype == np.int64
    assert got['bool'].dtype == bool
    assert str(got['time'].dtype).endswith('UTC]')


def test_what_one_protocol_writes_the_other_reads(client, other_client, name):
    client.write('csv', name, frame())
    assert len(other_client.read('csv', name)) == 3


def test_missing_cells_are_missing_again_but_empty_in_text(client, name):
    df = pd.DataFrame({'f': [1.5, None, 2.0], 'b': [True, None, False], 's': ['x', None, 'y']})
    client.write('csv', name, df)
    got = client.read('csv', name)
    assert got['f'].isna().tolist() == [False, True, False]
    assert got['b'].tolist() == [True, None, False]
    assert got['s'].tolist() == ['x', '', 'y']


def test_index_columns_are_written_first(client, name, folder):
    df = pd.DataFrame({'x': [1]}, index=pd.MultiIndex.from_tuples([('a', 'b')], names=['k', None]))
    client.write('csv', name, df)
    assert (folder / name).read_text() == 'k,idx-1,x\na,b,1\n'


def test_create_makes_a_header_and_does_not_replace(client, name, folder, refuses):
    fields = [v3f.SchemaField(name='b'), v3f.SchemaField(name='a')]
    client.create('csv', name, schema=v3f.Schema(fields=fields))
    assert (folder / name).read_text() == 'b,a\n'
    assert len(client.read('csv', name)) == 0
    again = lambda **kw: client.create('csv', name, **kw)
    refuses(v3f.CreateError, f"""file '"{name}"' already exists""", again)
    again(if_exists=v3f.IGNORE)
    assert (folder / name).read_text() == 'b,a\n'


def test_create_without_a_schema_makes_an_empty_file_that_cannot_be_read(client, name, folder, refuses):
    client.create('csv', name)
    assert (folder / name).read_text() == ''
    refuses(v3f.Error, 'cannot read header (columns): EOF', lambda: client.read('csv', name))


def test_columns_and_limit(client, name):
    client.write('csv', name, pd.DataFrame({'a': range(10), 'b': range(10), 'c': range(10)}))
    got = client.read('csv', name, columns=['c', 'a'], limit=3)
    # The client puts them in the order that was asked for.
    assert list(got.columns) == ['c', 'a']
    assert got['a'].tolist() == [0, 1, 2]


def test_a_marker_goes_on_where_a_limit_ended(client, name):
    client.write('csv', name, pd.DataFrame({'a': range(10)}))
    seen, marker = [], ''
    for _ in range(4):
        frames = list(client.read('csv', name, limit=3, marker=marker, get_raw=True))
        for one in frames:
            seen += list(one.column_data('a'))
        labels = frames[-1].labels()
        marker = labels['next_marker'].sval if 'next_marker' in labels else ''
        if not marker:
            break
    assert seen == list(range(10))


def test_frames_have_the_asked_number_of_rows(client, name):
    client.write('csv', name, pd.DataFrame({'a': range(10)}))
    got = client.read('csv', name, iterator=True, max_rows_in_msg=4)
    assert [len(df) for df in got] == [4, 4, 2]


def test_several_frames_make_one_file(client, name):
    client.write('csv', name, [pd.DataFrame({'a': [1], 'b': ['x']}), pd.DataFrame({'b': ['y'], 'a': [2]})])
    assert client.read('csv', name)['a'].tolist() == [1, 2]


def test_a_write_replaces_the_file_and_a_failed_one_does_not(client, name, refuses):
    client.write('csv', name, pd.DataFrame({'a': [1, 2, 3]}))
    client.write('csv', name, pd.DataFrame({'a': [4]}))
    wrong = [pd.DataFrame({'a': [5]}), pd.DataFrame({'z': [6]})]
    refuses(v3f.Error, 'the frame has no column "a"', lambda: client.write('csv', name, wrong))
    assert client.read('csv', name)['a'].tolist() == [4]


def test_a_table_can_be_created_for_appending(client, name, protocol):
    if protocol == 'http':
        pytest.skip("the client's HTTP half cannot turn properties into JSON")
    fields = [v3f.SchemaField(name='a', properties={'append': True})]
    client.create('csv', name, schema=v3f.Schema(fields=fields))
    for value in (1, 2, 3):
        client.write('csv', name, pd.DataFrame({'a': [value]}))
    assert client.read('csv', name)['a'].tolist() == [1, 2, 3]


def test_delete(client, name, refuses):
    client.write('csv', name, frame())
    client.delete('csv', name)
    refuses(v3f.DeleteError, f"""path to file '"{name}"' doesn't exist""", lambda: client.delete('csv', name))
    client.delete('csv', name, if_missing=v3f.IGNORE)
    refuses(v3f.Error, 'no such file or directory', lambda: client.read('csv', name))


def test_ping(client, refuses):
    got = client.execute('csv', 'any', 'PING', args={'rows': 3, 'cols': 2})
    assert got['col-0'].tolist() == [0, 0, 0]
    assert got['col-1'].tolist() == [0, 1, 2]
    assert client.execute('csv', 'any', 'ping').shape == (37, 4)
    refuses(v3f.ExecuteError, 'rows is -1', lambda: client.execute('csv', 'any', 'ping', args={'rows': -1}))
    refuses(
        v3f.ExecuteError,
        """CSV backend doesn't support execute command '"pong"'""",
        lambda: client.execute('csv', 'any', 'pong'),
    )


@pytest.mark.parametrize('table', ['../../etc/passwd', '..', 'x/../../y', 'a\0b', '.framesd/x'])
def test_nobody_leaves_the_root_folder(client, table):
    for call in (
        lambda: client.read('csv', table),
        lambda: client.create('csv', table),
        lambda: client.write('csv', table, frame()),
        lambda: client.delete('csv', table),
    ):
        with pytest.raises(v3f.Error) as caught:
            call()
        assert 'below the root folder of the csv backend' in text_of(caught.value)


def test_a_link_out_of_the_root_folder_is_refused(client, name, folder, tmp_path, refuses):
    (tmp_path / 'secret.csv').write_text('a\nsecret\n')
    (folder / name).symlink_to(tmp_path / 'secret.csv')
    text = 'is a link out of the root folder'
    refuses(v3f.Error, text, lambda: client.read('csv', name))
    refuses(v3f.Error, text, lambda: client.write('csv', name, frame()))
    refuses(v3f.Error, text, lambda: client.delete('csv', name))
    assert (tmp_path / 'secret.csv').read_text() == 'a\nsecret\n'


@pytest.mark.parametrize(
    'content, text',
    [
        ('a,b\n1,2\n3\n', 'record on line 3: wrong number of fields'),
        ('a\nx"y\n', 'bare " in non-quoted field'),
        ('a\n"x\n', 'extraneous or missing " in quoted field'),
        ('', 'cannot read header (columns): EOF'),
    ],
)
def test_files_that_are_none_say_why(client, name, folder, refuses, content, text):
    (folder / name).write_text(content)
    refuses(v3f.Error, text, lambda: client.read('csv', name))


def test_a_header_only_has_no_rows_and_nul_bytes_are_data(client, name, folder):
    (folder / name).write_text('a,b\n')
    assert client.read('csv', name).empty
    (folder / name).write_text('a,b\nx\0y,1\n')
    assert client.read('csv', name)['a'].tolist() == ['x\0y']


def test_parameters_of_other_backends_are_refused(client, name, refuses):
    client.write('csv', name, frame())
    refuses(
        v3f.Error,
        'Start cannot be used as an argument to a ReadRequest to csv backend',
        lambda: client.read('csv', name, start='0'),
    )
