#!/usr/bin/env bash
# The Python package installs from the tree into a fresh environment, without a network, and says so where
# there is no library; its version is the project's. The wheel that carries the library and the commands
# installs there, too: the package calls this library, the commands run with an empty environment, and
# nothing is left when it is removed.
set -euo pipefail
python=/usr/bin/python3
$python -c 'import setuptools, wheel, pip, venv' 2> /dev/null \
  || { echo "skipped: python3-venv, -pip, -setuptools or -wheel is missing"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(sed -n 's/^project(ivon VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
cp -r formats/python "$work/source" # where the build leaves its own files
$python -m venv --system-site-packages --without-pip "$work/venv"
pip() { "$work/venv/bin/python" -m pip --quiet --no-cache-dir "$@" --root-user-action=ignore; }
pip install --no-index --no-build-isolation --no-deps "$work/source"
$python tests/oracle/linear_regression.py make "$work/data" orthogonal
cat > "$work/use.py" << 'PYTHON'
import importlib.metadata
import sys
import numpy as np
import ivon_posterior
prefix, version, data = sys.argv[1:]
assert ivon_posterior.__file__.startswith(prefix), ivon_posterior.__file__
assert importlib.metadata.version("ivon-posterior") == version
ivon_posterior.save("own.npz", {"w": (np.ones(3, "f4"), np.ones(3, "f4"))}, ess=10, weight_decay=1)
try:
    print(ivon_posterior.info(data)["parameters"], ivon_posterior.load("own.npz").ess)
except ivon_posterior.PosteriorError as error:
    print(error)
PYTHON
use() { (cd "$work" && env -i venv/bin/python use.py "$work/venv" "$version" "$work/data/base.h5"); }
if ! ldconfig -p | grep -q 'libivon\.so\.1'; then
  [[ "$(use)" == 'libivon is not found: '*'IVON_LIBRARY may name the file libivon.so.1' ]]
fi

bash formats/python/wheel.sh "$IVON_BUILD" "$work" > "$work/log"
wheel=$(echo "$work/ivon_posterior-$version-py3-none-linux_"*.whl)
pip install --no-index --no-deps --force-reinstall "$wheel"
[[ "$(use)" =~ ^[1-9][0-9]*' 10.0'$ ]]
bin=$work/venv/bin
[[ "$(env -i "$bin/ivon" --version)" == "ivon $version"* ]]
for link in "$IVON_BIN"/ivon-*; do
  name=$(basename "$link")
  [[ "$(env -i PATH=/usr/bin:/bin "$bin/$name" --help)" == "Usage: $name "* ]]
done
ln -s "$bin/ivon-info" "$work/info" # by any name, with arguments as they are
(cd "$work" && cp data/base.h5 'a b.h5' && env -i PATH=/usr/bin:/bin ./info --check 'a b.h5' > log)
[ -e "$work/venv/share/man/man1/ivon-merge.1.gz" ]
pip uninstall --yes ivon-posterior
[ -z "$(find "$work/venv" -name '*ivon*' | tee /dev/stderr)" ]
