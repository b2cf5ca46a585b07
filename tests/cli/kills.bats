# What a process that ends at a random moment leaves: tests/property/kills.py, which takes hundreds.
load common

@test "commands that are killed leave the old outputs, the new ones or none" {
  $python "$BATS_TEST_DIRNAME/../property/kills.py" 14
}

@test "too little memory, and files that may not grow, end commands with one line" {
  ! ldd "$IVON_BIN/ivon" | grep -qE 'lib[at]san' || skip "sanitizers take all addresses"
  $python "$BATS_TEST_DIRNAME/../property/limits.py" 26
}
