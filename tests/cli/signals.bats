# Signals are heeded within a second, whatever a command is at. How long things take is the release's to show.
load common

@test "a signal ends any command on 20,000 tensors within a second" {
  $python "$BATS_TEST_DIRNAME/../oracle/many_tensors.py" 20000
  ivon-convert -q a.safetensors -o a.h5
  $python "$BATS_TEST_DIRNAME/../oracle/signals.py" 2 << 'COMMANDS'
ivon-convert -qf a.safetensors -o o.h5
ivon-convert -qf a.h5 -o o.npz
ivon-convert -qf a.safetensors -o o.safetensors
ivon-convert -qf a.h5 --shard-size=1M -o o.safetensors.index.json
ivon-merge -qf -m average a.h5 b.safetensors -o o.h5
ivon-info a.h5
COMMANDS
}

@test "a signal ends computations within a second, and a training goes on to the same bits" {
  $python - << 'PYTHON'
import h5py, numpy as np
r = np.random.default_rng(0)
with h5py.File("data.h5", "w") as f:
    f["x"], f["y"] = r.standard_normal((4000, 64)).astype("f4"), r.integers(0, 10, 4000)
PYTHON
  options=(--no-provenance -q --arch=mlp:64,512,512,10 --data=data.h5 --test=data.h5 --lr=.1 --batch=4000 --steps=3 --save-every=0 --eval-every=1)
  ivon-train "${options[@]}" -o whole
  cp whole/posterior-00000003.h5 p.h5
  $python "$BATS_TEST_DIRNAME/../oracle/signals.py" 3 << COMMANDS
ivon-predict -qf p.h5 --data=data.h5 -n 30 -o p.csv
ivon-sensitivity -qf p.h5 --data=data.h5 -o s.h5 --vectors
ivon-sensitivity -qf p.h5 --data=data.h5 --limit=400 --groups=y -o g.csv
ivon-predict-gen -qf p.h5 --data=data.h5 --samples=20 -o g.csv
ivon-sample -qf p.h5 -n 20 -o s-%d.h5
ivon-train ${options[@]} -f -o run
COMMANDS
  rm -rf run
  for delay in .3 .6 .9 1.2 1.5; do
    timeout -s TERM $delay ivon-train "${options[@]}" --resume -o run || [ $? = 124 ]
  done
  ivon-train "${options[@]}" --resume -o run
  cmp run/log.csv whole/log.csv
  cmp run/posterior-00000003.h5 whole/posterior-00000003.h5
}
