load common

@test "ivon_posterior saves and loads what PyTorch trains, and predictions are PyTorch's" {
  run $python "$BATS_TEST_DIRNAME/../oracle/posterior_module.py" .
  echo "$output"
  [ $status -ne 77 ] || skip "$output"
  [ $status -eq 0 ]
  [ "${lines[-1]}" = "saved, loaded and predicted" ]
}

@test "ivon_posterior saves and loads arrays by name without PyTorch" {
  run $python "$BATS_TEST_DIRNAME/../oracle/posterior_arrays.py" .
  echo "$output"
  [ $status -eq 0 ]
  [ "${lines[-1]}" = "saved and loaded without torch" ]
}
