load common

photographs() { # DIRECTORY SIDE CHANNELS...: classes a and b, an image for each CHANNELS, the first of SIDE x SIDE
  $python - "$@" "$BATS_TEST_DIRNAME/../oracle" << 'PYTHON'
import os, sys
import numpy as np
sys.dont_write_bytecode = True
sys.path.append(sys.argv.pop())
import images
random = np.random.default_rng(1)
for label in "ab":
    os.makedirs(f"{sys.argv[1]}/{label}")
    for i, channels in enumerate(map(int, sys.argv[3:])):
        pixels = random.integers(0, 256, (int(sys.argv[2]) + i, int(sys.argv[2]) - i, channels)).astype("u1")
        images.write_png(f"{sys.argv[1]}/{label}/{i}.png", pixels[..., 0] if channels == 1 else pixels)
PYTHON
}

@test "a directory of images trains, predicts, and is drawn, with the channels of the graph" {
  photographs colour 36 3 1 3
  photographs grey 36 1 1 1
  train() { ivon-train -q --no-provenance --lr=.1 --batch=2 --save-every=0 --resize=32 "$@"; }
  train --arch=lenet:1,2 --data=grey --epochs=2 -o run
  p=run/posterior-00000006.h5
  [ "$(ivon-predict -q $p --data=colour --resize=32 --mean | wc -l)" = 7 ] # made grey
  ivon-predict -q $p --data=grey --resize=32 --mean --metrics | grep -q ^accuracy
  ivon-sensitivity -q $p --data=colour --resize=40,32 --normalize=.5,.25 --groups=y > groups.csv
  [ "$(wc -l < groups.csv)" = 3 ]
  ivon-sensitivity -q $p --data=colour --resize=32x32 -o s.csv
  if command -v gnuplot > /dev/null; then
    ivon-plot images s.csv --data=colour --resize=32 -o s.svg
    grep -q '<image' s.svg
  fi
  train --from=$p --data=colour --epochs=1 -o tuned # and what is resumed has the graph's channels, too
  train --from=$p --data=colour --epochs=2 -o tuned --resume
  [ -e tuned/posterior-00000006.h5 ]
}

@test "links to images elsewhere are followed, also where nothing else may be read" {
  photographs far 36 1 1 1
  mkdir -p links/a
  ln -s "$PWD"/far/a/*.png links/a/
  ln -s ../far/b links/b
  ivon-train -q --no-provenance --arch=lenet:1,2 --data=far --resize=32 --lr=.1 --batch=6 --epochs=1 -o run
  ivon-predict -q run/posterior-00000001.h5 --mean --resize=32 --data=far > far.csv
  ivon-predict -q run/posterior-00000001.h5 --mean --resize=32 --data=links > links.csv
  cmp far.csv links.csv
}

@test "what is wrong with images is said in one line" {
  photographs d 32 1 1 3
  ivon-train -q --no-provenance --arch=lenet:1,2 --data=d --limit=2 --resize=32 --lr=.1 --batch=2 --epochs=1 -o run
  refused() { # STATUS MESSAGE OPTION...
    run ivon-predict -q run/posterior-00000001.h5 --mean "${@:3}"
    [ "$status" -eq "$1" ] && [ "$output" = "ivon-predict: $2" ] || { echo "$status: $output"; return 1; }
  }
  refused 65 "d/a/1.png: has 31 x 33 pixels, expected 32 x 32 as 'a/0.png'; --resize scales images to one size" --data=d
  photographs other 36 1
  refused 65 "other: array 'x' has shape 2x1x36x36, input 'x' of run/posterior-00000001.h5/model.onnx takes ?x1x32x32; --resize scales images to one size" \
    --data=other
  for size in '' 0 x 3x 3x4x5 3,4 65536 -1 3, 1.5 ' 3'; do
    refused 64 "--resize: '$size', expected SHORT, SHORT,MIDDLE or HEIGHTxWIDTH in pixels, up to 65535, and no more in the middle than the shorter side has" \
      --data=d --resize="$size"
  done
  head -c 100 d/b/1.png > cut.png
  mv cut.png d/b/1.png
  refused 65 "d/b/1.png: damaged PNG: it ends early" --data=d --resize=32
  rm d/b/*
  refused 65 "d/b: is the directory of a class and holds no image, expected some by names in .png, .jpg or .jpeg" \
    --data=d --resize=32
  echo 1,2 > t.csv
  refused 64 "t.csv: only images can be resized, and this is a CSV file" --data=t.csv --resize=32
}
