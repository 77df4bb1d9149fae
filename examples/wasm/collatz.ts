// The numbers of Collatz's game from a number down to 1: a table function. By hand:
//   npx --package assemblyscript asc collatz.ts -O3 --runtime stub --use abort= -o collatz.wasm

// A column of numbers: an argument, or the room for a result.
@unmanaged
class Column {
  length: i32;
  validity: usize;
  data: usize;
  offsets: usize;
  capacity: u32;
}

// For which version of the interface it is made; never called.
export function epochal_interface_1(): void {}

// collatz(start: int64) -> (step: int64, n: int64), state = 16: the number of the row that comes
// next, and its value; both 0 at first.
export function collatz(columns: usize, room: usize): i32 {
  const state = changetype<Column>(columns).data;
  const step = changetype<Column>(room), n = changetype<Column>(room + 20);
  let row = load<i64>(state), value = load<i64>(state, 8);
  if (row == 0) value = load<i64>(changetype<Column>(columns + 20).data);
  let filled = 0;
  while (filled < step.length && value > 0) {
    store<i64>(step.data + 8 * filled, row++);
    store<i64>(n.data + 8 * filled, value);
    filled++;
    value = value == 1 ? 0 : value % 2 == 0 ? value / 2 : 3 * value + 1;
  }
  step.length = filled;
  n.length = filled;
  store<i64>(state, row);
  store<i64>(state, value, 8);
  return value > 0 ? 1 : 0; // 1: there are more rows
}
