# Draws glyphs of eight classes, 12 x 12 pixels with noise, as CSV: x0 ... x143, y, wrong.
#
#   awk -f glyphs.awk -v count=N -v seed=N [-v style=plain|turned|inverse] [-v wrong=SHARE]
#
# `turned` glyphs are rotated by 25 to 50 degrees, `inverse` ones dark on light. A share `wrong` of the
# labels y is another class's, and marked by 1 in the last column.

# Park and Miller's generator (CACM 1988), so that every awk draws the same.
function uniform() {
  state = (16807 * state) % 2147483647
  return state / 2147483647
}
function between(low, high) { return low + (high - low) * uniform() }
function normal() { return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()) }
function abs(a) { return a < 0 ? -a : a }
function max(a, b) { return a > b ? a : b }
function min(a, b) { return a < b ? a : b }

# How far (x, y) is from the strokes of a glyph of size 1.
function distance(class, x, y) {
  if (class == 0) return abs(sqrt(x * x + y * y) - 0.8)                       # ring
  if (class == 1) return abs(max(abs(x), abs(y)) - 0.75)                      # square
  if (class == 2) return max(min(abs(x), abs(y)), max(abs(x), abs(y)) - 0.9)  # plus
  if (class == 3) return max(min(abs(x + y), abs(x - y)) * 0.7, max(abs(x), abs(y)) - 0.8) # cross
  if (class == 4) return abs(max(abs(x) * 0.866 + y * 0.5, -y) - 0.45)        # triangle
  if (class == 5) return max(abs(abs(y) - 0.45), abs(x) - 0.85)               # two bars across
  if (class == 6) return max(abs(abs(x) - 0.45), abs(y) - 0.85)               # two bars upright
  return max(0, sqrt(x * x + y * y) - 0.35)                                   # dot
}

BEGIN {
  SIDE = 12
  CLASSES = 8
  state = 7919 * seed + 1
  for (i = 0; i < 20; i++) uniform()
  for (i = 0; i < SIDE * SIDE; i++) printf "x%d,", i
  print "y,wrong"
  for (n = 0; n < count; n++) {
    class = n % CLASSES
    label = class
    is_wrong = uniform() < wrong
    if (is_wrong) label = (class + 1 + int(between(0, CLASSES - 1))) % CLASSES
    angle = style == "turned" ? between(25, 50) * (uniform() < 0.5 ? -1 : 1) : between(-12, 12)
    angle *= 0.017453292519943295
    scale = between(3.6, 4.8)
    dx = between(-1.2, 1.2) + (SIDE - 1) / 2
    dy = between(-1.2, 1.2) + (SIDE - 1) / 2
    width = between(0.1, 0.22)
    for (i = 0; i < SIDE * SIDE; i++) {
      u = (i % SIDE - dx) / scale
      v = (int(i / SIDE) - dy) / scale
      d = distance(class, u * cos(angle) - v * sin(angle), u * sin(angle) + v * cos(angle))
      ink = max(0, min(1, 1 - (d - width) / 0.25))
      if (style == "inverse") ink = 1 - ink
      printf "%.3f,", ink + 0.25 * normal()
    }
    print label "," is_wrong
  }
}
