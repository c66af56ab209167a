#!/usr/bin/env bash
# Pillow 13.0.0
#
# One would guess: Image.getexif() tells what the EXIF block of a file says, so that a JPEG without one
# has no orientation, and ImageOps.exif_transpose leaves it as it is.
# Seen: where there is no EXIF orientation, getexif() takes tiff:Orientation from the XMP packet, and
# exif_transpose turns the picture. Who strips EXIF and keeps XMP after turning the pixels (some
# editors do) gets it turned twice; decoders that go by EXIF alone do not turn it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/v"
"$work/v/bin/pip" install --quiet --disable-pip-version-check "pillow==13.0.0" 2>/dev/null
"$work/v/bin/python" - <<'PY'
import io

from PIL import Image, ImageOps

XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>
</rdf:RDF></x:xmpmeta>"""


def opened(**keys):
    file = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(file, "JPEG", **keys)
    assert b"Exif\0\0" not in file.getvalue()
    return Image.open(file)


plain, told = opened(), opened(xmp=XMP)
print("without XMP:", dict(plain.getexif()), ImageOps.exif_transpose(plain).size)
print("with XMP:", dict(told.getexif()), ImageOps.exif_transpose(told).size)
assert ImageOps.exif_transpose(plain).size == (40, 20)
assert dict(told.getexif()) == {0x0112: 6}
assert ImageOps.exif_transpose(told).size == (20, 40)
PY
