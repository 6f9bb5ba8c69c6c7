"""Text from strangers reaches a terminal as one line of bounded length without control characters."""

import os

import pytest

from gauss_diffusion import command_line


@pytest.mark.parametrize(
  ("text", "want"),
  [
    ("plain, Σ and é", "plain, Σ and é"),
    ("two\nlines\r\n and\tmore ", "two lines and more"),
    ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
    ("left\u202eright\ud800", r"left\u202eright\ud800"),
    (ValueError("as it says"), "as it says"),
    ("", ""),
  ],
)
def test_text_becomes_one_printable_line(text, want):
  assert command_line.printable(text) == want


def test_long_text_loses_its_middle():
  assert command_line.printable("a" * 10**7 + "end", 10) == "aaaaa … aaend"
  assert len(command_line.printable("\x00" * 10**7)) <= 4 * command_line.MOST + 3


def test_arguments_that_are_no_text_are_refused(capsys):
  command_line.prepare(["main", "--title=é – 研究"])
  with pytest.raises(SystemExit):
    command_line.prepare(["main", os.fsdecode(b"--workdir=runs/\xff")])
  assert (
    capsys.readouterr().err
    == r"error: `--workdir=runs/\udcff` holds bytes that are not UTF-8; want text" + "\n"
  )


def test_refusal_is_one_line_and_code_two(capsys):
  with pytest.raises(SystemExit) as ended:
    command_line.refuse(ValueError("bad\x1b]0;title\x07\nname"))
  assert ended.value.code == 2
  assert capsys.readouterr() == ("", "error: bad\\x1b]0;title\\x07 name\n")
