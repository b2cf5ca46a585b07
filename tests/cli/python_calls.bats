load common

@test "the calls of ivon_posterior have the bits of the commands" {
  small_networks
  export IVON_LIBRARY=$IVON_BIN/../libivon.so.1
  run $python "$BATS_TEST_DIRNAME/../oracle/posterior_calls.py" .
  echo "$output"
  [ $status -eq 0 ]
  [ "${lines[-1]}" = "the calls have the bits of the commands" ]
}

@test "the example of Python finds wrong labels and unsure predictions, and merges" {
  export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$BATS_TEST_DIRNAME/../../formats/python
  export IVON_LIBRARY=$IVON_BIN/../libivon.so.1
  $python -c 'import torch' || skip "torch is missing"
  run $python "$BATS_TEST_DIRNAME/../../man/examples/posterior.py"
  echo "$output"
  [ $status -eq 0 ]
  [ ${#lines[@]} -eq 7 ]
  numbers=$(grep -oE '[0-9.]+$' <<< "$output" | tr '\n' ' ')
  # Of 30 wrong labels, and of a third of 1 % of the predictions for each error.
  awk '{exit !($1 >= 24 && $2 < 0.45 && $3 > 0.95 && $4 >= 3 && $5 < 0.85 && $6 < 0.85 && $7 > 0.87)}' \
    <<< "$numbers"
  ivon info --check posterior.h5
}
