"""The picture of a chat: valid, coloured, and it asks no server for anything."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from mtpcli.cli.picture import svg


def test_svg() -> None:
    picture = svg("> hello\n\x1b[32maccepted\x1b[0m & <plain> \x1b[2mdimmed\x1b[0m\n")
    root = ElementTree.fromstring(picture)
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert "accepted" in texts
    assert any(text and "<plain>" in text for text in texts)
    assert "@font-face" not in picture and "url(http" not in picture
    # The accepted token has a colour that the text around it does not have.
    fills = dict(re.findall(r"\.mtpcli-(r\d) \{ fill: (#\w{6})", picture))
    assert len(set(fills.values())) >= 3
