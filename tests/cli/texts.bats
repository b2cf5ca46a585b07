load common

@test "texts in CSV train and are predicted, by the words of a vocabulary" {
  printf '%s\n' '<pad>' '<unk>' good bad film > words.txt
  printf 'label,text\n' > t.csv
  for ((i = 0; i < 10; i++)); do printf '%s\n' '0,a BAD film' '1,"a good, good film"'; done >> t.csv
  $python -c 'import h5py; f = h5py.File("t.h5", "w"); f["x"] = [[1, 3, 4, 0, 0, 0], [1, 1, 2, 4, 0, 0]] * 10; f["y"] = [0, 1] * 10'
  csv=(--data=t.csv --target-column=label --tokens=words.txt)
  train() { ivon-train -q --no-provenance --arch=transformer:5,6,8,1,2,2 --lr=.1 --batch=5 --epochs=2 --save-every=0 "$@"; }
  train --data=t.h5 -o a
  train "${csv[@]}" --context=6 -o b
  cmp a/posterior-00000008.h5 b/posterior-00000008.h5
  p=a/posterior-00000008.h5
  ivon-sensitivity -q $p --data=t.h5 --no-provenance > s.csv
  ivon-sensitivity -q $p "${csv[@]}" --text-column=text --no-provenance | cmp s.csv - # as long as the graph takes them
  ivon-sensitivity -q $p --data=t.h5 --no-provenance --groups=y > s.csv
  ivon-sensitivity -q $p "${csv[@]}" --no-provenance --groups=label | cmp s.csv -
}

@test "what is wrong with texts is said in one line" {
  refused() { # STATUS MESSAGE OPTION...
    run ivon-train -q --epochs=1 --lr=.1 --batch=1 --arch=textcnn:5,4,4,2 "${@:3}" -o run
    [ "$status" -eq "$1" ] && [ "$output" = "ivon-train: $2" ] || { echo "$status: $output"; return 1; }
  }
  printf '%s\n' a b > words.txt
  printf '%s\n' 'label,text,more' '0,a b,c' > t.csv
  options=(--data=t.csv --target-column=label --tokens=words.txt)
  refused 64 "t.csv: how many tokens a text has is not said; --context=T says it" "${options[@]}"
  refused 65 "t.csv: has 3 columns, and which of them has the texts is not said; --text-column names it" \
    "${options[@]}" --context=6
  refused 65 "t.csv: row 0: 'c' is not in words.txt, where neither <unk> nor [UNK] stands for what is not" \
    "${options[@]}" --context=6 --text-column=more
  refused 66 "word: cannot open it: No such file or directory" --data=t.csv --tokens=word --context=6 --text-column=text \
    --target-column=label
  refused 64 "--stride is for one text, not for texts in CSV" "${options[@]}" --context=6 --stride=2
  refused 64 "--text-column needs --tokens=VOCABULARY" --data=t.csv --target-column=label --text-column=text
}
