#!/usr/bin/env bash
# Pillow 12.0.0 with the LittleCMS of its wheel, numpy 2.2.6
#
# One would guess: converting 8-bit grey of a gamma profile to sRGB is exact to a level, since it is one
# curve, and the flags' default differs from NOOPTIMIZE in speed alone.
# Seen: with the default flags, grey of gamma 1.0 is off by up to 10 levels in the shadows; with
# NOOPTIMIZE by less than 1. The right value is the sRGB curve of the linear value.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/grey.py" <<'PY'
import struct

import numpy as np
from PIL import Image, ImageCms


def grey_profile(gamma):
    """Return a grey monitor profile (ICC 2.1, D50) of a gamma."""
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"grey\0" + bytes(78),
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061),
        b"kTRC": b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2),
        b"cprt": b"text" + bytes(4) + b"none\0" + bytes(3),
    }
    table, data = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content
    header = struct.pack(">I", start + len(data)) + bytes(4) + bytes([2, 0x10, 0, 0])
    header += b"mntrGRAYXYZ " + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)
    header += bytes(128 - len(header))
    return header + struct.pack(">I", len(tags)) + table + data


levels = np.arange(256, dtype=np.uint8)[None]
linear = levels / 255
right = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
source = ImageCms.ImageCmsProfile(__import__("io").BytesIO(grey_profile(1.0)))
target = ImageCms.createProfile("sRGB")
for name, flags in (("default", 0), ("NOOPTIMIZE", ImageCms.Flags.NOOPTIMIZE)):
    transform = ImageCms.buildTransform(source, target, "L", "RGB", flags=flags)
    seen = np.asarray(ImageCms.applyTransform(Image.fromarray(levels), transform))[..., 0]
    print(f"{name}: off by more than 5 levels {bool(np.abs(seen - right).max() > 5)}")
PY
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    "pillow==12.0.0" "numpy==2.2.6" 2>/dev/null
seen=$("$work/env/bin/python" "$work/grey.py")
echo "$seen"
[[ $seen == $'default: off by more than 5 levels True\nNOOPTIMIZE: off by more than 5 levels False' ]]
