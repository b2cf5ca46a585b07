#!/usr/bin/env bash
# 300 of CIFAR-10's images as PNG in a directory for each class: predictions and sensitivities are to the bit
# those of the same rows in HDF5. Scaled, PNG and JPEG are to the bit as PIL reads and scales them, where it is.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
oracle=$(cd "$(dirname "$0")/../oracle" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
PATH=$IVON_BIN:$PATH
export PYTHONDONTWRITEBYTECODE=1
/usr/bin/python3 "$oracle/images.py" "$IVON_SHARED/data/cifar10.h5:/test" photos 300
network=("$IVON_SHARED/reference/cifar-lenet/posterior.h5" "--model=$IVON_SHARED/reference/cifar-lenet/model.onnx")
same() { # DIRECTORY FILE OPTION...
  ivon-predict -q "${network[@]}" --no-provenance --data="$1" "${@:3}" > directory.txt
  ivon-predict -q "${network[@]}" --no-provenance --data="$2" > file.txt
  cmp directory.txt file.txt
}

ivon-predict -q "${network[@]}" -n 8 --data=photos --metrics > directory.txt
ivon-predict -q "${network[@]}" -n 8 --data=photos.h5 --metrics > file.txt
cmp directory.txt file.txt
head -n 3 directory.txt
for threads in 1 2; do
  ivon-sensitivity -q "${network[@]}" -j $threads --data=photos --no-provenance > directory-$threads.txt
done
ivon-sensitivity -q "${network[@]}" --data=photos.h5 --no-provenance > file.txt
cmp directory-1.txt file.txt
cmp directory-2.txt file.txt

if ! /usr/bin/python3 -c 'import PIL' 2> /dev/null; then
  echo "without PIL, which is missing"
  exit 0
fi
/usr/bin/python3 - << 'PYTHON'
import os

import h5py
import numpy as np
from PIL import Image

random = np.random.default_rng(3)
os.makedirs("odd/only")
sets = {"short": [], "exact": []}
for i in range(40):
    size = tuple(int(s) for s in random.integers(30, 200, 2))
    colours = Image.fromarray(random.integers(0, 256, (9, 9, 3)).astype("u1")).resize(size, Image.BICUBIC)
    name = f"odd/only/{i:03}"
    if i % 4 == 0:
        colours.save(name + ".jpg", quality=85, progressive=i % 8 == 0)
    elif i % 4 == 1:
        colours.convert("L").save(name + ".JPEG")
    elif i % 4 == 2:
        colours.quantize(50).save(name + ".png")
    else:
        colours.convert("RGBA").save(name + ".png")
for name in sorted(os.listdir("odd/only")):
    image = Image.open("odd/only/" + name).convert("RGB")
    sets["exact"].append(image.resize((32, 32), Image.BILINEAR))
    width, height = image.size
    short = min(width, height)
    scaled = image.resize((40 * width // short, 40 * height // short), Image.BILINEAR)
    left, top = (round((extent - 32) / 2) for extent in scaled.size)
    sets["short"].append(scaled.crop((left, top, left + 32, top + 32)))
for name, images in sets.items():
    with h5py.File(name + ".h5", "w") as file:
        file["x"] = np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])
        file["y"] = np.zeros(len(images), "i8")
PYTHON
same odd short.h5 --resize=40,32
same odd exact.h5 --resize=32x32
echo "40 images are as PIL has them"
