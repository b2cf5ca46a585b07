# What an output replaces, of every command that writes: a link itself, never what it leads to.
load common

setup_file() {
  cd "$BATS_FILE_TMPDIR"
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/example_files.py" .
}

# Every output of every command: NAME and a shell command that writes it, beside what stays out of it.
every_output() {
  cat << 'COMMANDS'
o.h5               ivon-convert a.h5 -o o.h5
o.npz              ivon-convert a.h5 -o o.npz
o.safetensors      ivon-convert a.h5 -o o.safetensors
m.h5               ivon-merge a.h5 b.h5 -o m.h5
s-1.h5             ivon-merge --base=a.h5 b.h5 --sweep=1:2:1 -o s-%g.h5
md/model.safetensors  ivon-merge a.h5 b.h5 -o md/
md/README.md       ivon-merge a.h5 b.h5 -o md/
ad/adapter_model.safetensors  ivon-merge --base=a.h5 b.h5 --lora-rank=1 -o ad
ad/adapter_config.json        ivon-merge --base=a.h5 b.h5 --lora-rank=1 -o ad
d-1.npz            ivon-sample a.h5 -n 2 -o d-%d.npz
p.csv              ivon-predict a.h5 --data=test.h5 -o p.csv
p.jsonl            ivon-predict a.h5 --data=test.h5 -o p.jsonl
p.npy              ivon-predict a.h5 --data=test.h5 -o p.npy
t.h5               ivon-predict a.h5 --data=test.h5 -o t.h5
ll.nc              ivon-predict a.h5 --data=test.h5 --metrics --log-likelihoods=ll.nc
i.csv              ivon-sensitivity a.h5 --data=test.h5 -o i.csv
i.h5               ivon-sensitivity a.h5 --data=test.h5 --vectors -o i.h5
q.csv              ivon-influence a.h5 --data=test.h5 --queries=test.h5 -o q.csv
q.h5               ivon-influence a.h5 --data=test.h5 --queries=test.h5 -o q.h5
f.h5               ivon-fit a.h5 --data=test.h5 -o f.h5
f.npz              ivon-fit a.h5 --data=test.h5 --structure=lowrank -o f.npz
g.csv              ivon-predict-gen a.h5 --data=test.h5 -o g.csv
x.safetensors.index.json      ivon-convert a.h5 --shard-size=160 -o x.safetensors.index.json
x-00002-of-00002.safetensors  ivon-convert a.h5 --shard-size=160 -o x.safetensors.index.json
run/log.csv        ivon-train --arch=mlp:4,3 --data=test.h5 --lr=.1 --steps=2 -o run
run/done           ivon-train --arch=mlp:4,3 --data=test.h5 --lr=.1 --steps=2 -o run
run/posterior-00000002.h5     ivon-train --arch=mlp:4,3 --data=test.h5 --lr=.1 --steps=2 -o run
COMMANDS
  ! command -v gnuplot > /dev/null || echo "picture.svg ivon-plot sensitivity scores.csv -o picture.svg"
}

forced() { # COMMAND: with --force, quiet where the command knows it
  case $1 in
    *ivon-plot*) $1 --force ;;
    *) $1 --force --quiet ;;
  esac
}

@test "a link in an output's place is replaced, and what it leads to is not written to" {
  cp "$BATS_FILE_TMPDIR"/*.h5 .
  ivon-sensitivity -q a.h5 --data=test.h5 > scores.csv
  count=0
  while read -r name command; do
    for kind in symbolic dangling hard; do
      rm -rf store run
      mkdir -p store "$(dirname "$name")"
      rm -f "$name"
      echo precious > store/blob
      case $kind in
        symbolic) ln -s "$PWD/store/blob" "$name" ;;
        dangling) ln -s "$PWD/store/nothing" "$name" ;;
        hard) ln store/blob "$name" ;;
      esac
      [[ $name == run/* ]] || ! $command > out 2> err || { echo "replaced $name"; return 1; }
      forced "$command" > out || { echo "$kind: $command"; return 1; }
      [ ! -L "$name" ] && [ -f "$name" ] || { echo "$kind link left: $name"; return 1; }
      [ "$(cat store/blob)" = precious ] || { echo "$kind: $command wrote into the store"; return 1; }
      [ "$(ls store)" = blob ] || { ls store; return 1; }
      [ -z "$(find . -name '*.ivon-tmp')" ]
      count=$((count + 1))
    done
  done < <(every_output)
  [ $count -ge 75 ]
}

@test "a resumed training leaves what shares its log alone" {
  cp "$BATS_FILE_TMPDIR"/*.h5 .
  train() { ivon-train --no-provenance -q --arch=mlp:4,3 --data=test.h5 --lr=.1 --save-every=2 -o "$@"; }
  train whole --steps=6
  train run --steps=4
  cp -rl run copy
  ln -s "$PWD/copy/log.csv" link
  cp copy/log.csv before
  touch run/.posterior-00000007.h5.ivon-tmp run/.other.ivon-tmp # a killed training's, and another's
  train run --steps=6 --resume
  cmp run/log.csv whole/log.csv
  cmp copy/log.csv before
  [ "$(ls -A run | grep tmp)" = .other.ivon-tmp ]
  mv link run/log.csv
  train run --steps=6 --resume
  [ ! -L run/log.csv ]
  cmp copy/log.csv before
}

@test "directories, devices and pipes are no outputs, and links to them stay" {
  cp "$BATS_FILE_TMPDIR"/*.h5 .
  mkdir folder.h5
  mkfifo pipe.h5
  ln -s folder.h5 to-folder.h5
  ln -s pipe.h5 to-pipe.h5
  ln -s /dev/null to-null.h5
  echo old > file
  for name in folder.h5 pipe.h5 to-folder.h5 to-pipe.h5 to-null.h5 /dev/null /dev/stdout /dev/fd/1; do
    for command in ivon-sample "ivon-predict --data=test.h5 --format=csv"; do
      status=0
      $command a.h5 -f -o $name 2> err >> file || status=$?
      cat err
      [ $status = 73 ]
      [ "$(wc -l < err)" = 1 ]
      grep -q "$name: is a d.*, expected a file to write" err
      [ -d folder.h5 ]
      [ -p pipe.h5 ]
      [ -L to-folder.h5 ]
      [ -L to-pipe.h5 ]
      [ -c /dev/null ]
      [ "$(cat file)" = old ]
    done
  done
}
