#!/usr/bin/env bash
# Pillow 12.0.0
#
# One would guess: a JPEG's colour profile is found wherever the format allows its marker, which is
# anywhere among the tables and other segments before the scan (T.81, B.2.4).
# Seen: a profile in an APP2 segment between the frame header (SOF) and the scan header (SOS) is not
# in Image.info. The same segment before SOF is. The pixels are the same in both, so nothing
# shows that colours were not converted.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/place.py" <<'PY'
import io

from PIL import Image, ImageCms

profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
buffer = io.BytesIO()
Image.new("RGB", (8, 8), "teal").save(buffer, "JPEG")
plain = buffer.getvalue()
body = b"ICC_PROFILE\0\x01\x01" + profile
segment = b"\xff\xe2" + (len(body) + 2).to_bytes(2, "big") + body


def after(data, marker):
    """Return the offset behind the segment with a marker."""
    at = 2
    while data[at + 1] != marker:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


for name, place in (("before SOF", 2), ("after SOF", after(plain, 0xC0))):
    with Image.open(io.BytesIO(plain[:place] + segment + plain[place:])) as image:
        image.load()
        print(f"{name}: profile found {image.info.get('icc_profile') == profile}")
PY
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check "pillow==12.0.0" 2>/dev/null
seen=$("$work/env/bin/python" "$work/place.py")
echo "$seen"
[[ $seen == $'before SOF: profile found True\nafter SOF: profile found False' ]]
