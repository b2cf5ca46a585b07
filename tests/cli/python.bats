load common

@test "ivon_posterior.py saves and loads what PyTorch trains, and predictions are PyTorch's" {
  run $python "$BATS_TEST_DIRNAME/../oracle/posterior_module.py" .
  echo "$output"
  [ $status -ne 77 ] || skip "$output"
  [ $status -eq 0 ]
  [ "${lines[-1]}" = "saved, loaded and predicted" ]
}
