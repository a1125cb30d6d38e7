"""The example of the README works as it is pasted, but for the server's address."""

import pathlib
import re
import subprocess
import sys


def test_the_python_example_of_the_readme_runs(address, protocol):
    readme = pathlib.Path(__file__).parents[2] / 'README.md'
    examples = [text for text in re.findall(r'```python\n(.*?)```', readme.read_text(), re.DOTALL) if 'v3io_frames' in text]
    assert examples
    for number, example in enumerate(examples):
        assert "'grpc://127.0.0.1:8081', container='users'" in example
        program = example.replace("'grpc://127.0.0.1:8081', container='users'", f"'{address}', container='readme-{protocol}-{number}'")
        ended = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
        assert '35.99' in ended.stdout and 'avg(load)' in ended.stdout, ended.stdout
