"""What every test of the suite shares: the published client over both protocols, and a table of its own."""

import itertools
import os
import re
import warnings

import pandas as pd
import pytest
import v3io_frames as v3f

from tables import Table

CONTAINER = 'interop'
numbers = itertools.count(1)


if pd.__version__.startswith('3.'):
    # Without it, texts in an index are of a type that the client does not know.
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        pd.options.future.infer_string = False


def pytest_configure(config):
    config.addinivalue_line('filterwarnings', 'error::UserWarning')
    # Of how the client uses pandas; the server has no part in it.
    config.addinivalue_line('filterwarnings', 'ignore:Pandas doesn.t allow columns')
    config.addinivalue_line('filterwarnings', 'ignore::DeprecationWarning')
    config.addinivalue_line('filterwarnings', 'ignore::FutureWarning')


@pytest.fixture(params=['grpc', 'http'])
def protocol(request):
    return request.param


@pytest.fixture
def address(protocol):
    return address_of(protocol)


def address_of(protocol):
    """Where run.mjs has started the server."""
    return os.environ[f'FRAMESD_{protocol.upper()}']


@pytest.fixture
def client(address):
    return v3f.Client(address, container=CONTAINER)


@pytest.fixture
def other_client(protocol):
    """The same server over the other protocol."""
    return v3f.Client(address_of('http' if protocol == 'grpc' else 'grpc'), container=CONTAINER)


@pytest.fixture
def missing(client, request):
    """A table that does not exist."""
    name = re.sub(r'\W+', '-', request.node.name)
    return Table(client, f'{request.node.path.stem}/{name}{next(numbers)}')


@pytest.fixture
def table(missing):
    """A table with the rate 1/s: its partitions are 48 hours long."""
    missing.create()
    return missing
