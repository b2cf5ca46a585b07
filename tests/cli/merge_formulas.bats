# What ivon-merge writes, against the formulas in numpy's float64.
load common

@test "every method, type, sign of weights and factor of a sweep agrees with numpy" {
  $python "$BATS_TEST_DIRNAME/../oracle/merge_cases.py" cases 1
}
