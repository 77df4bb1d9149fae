// Plugin `example`. `python build_example.py` compiles it and puts example.toml into the module.
// A function gets whole columns: see "Plugins in WebAssembly" in Epochal's docs.

// A column of Arrow data: an argument, or the room for a result.
@unmanaged
class Column {
  length: i32; // rows
  validity: usize; // a bit for each row, 1 for a value; 0 (no bitmap): no row is null
  data: usize; // address of the values, or of the bytes of all texts
  offsets: usize; // address of length + 1 numbers of 32 bits; 0 for types of a fixed size
  capacity: u32; // bytes at data
}

// For which version of the interface it is made; never called.
export function epochal_interface_1(): void {}

// greet(name: utf8) -> utf8. The first address is that of an array of columns, 20 bytes each.
export function greet(columns: usize, room: usize): i32 {
  const name = changetype<Column>(columns);
  const result = changetype<Column>(room);
  const names = load<u32>(name.offsets + 4 * name.length);
  // "Hello, " and "!" are 8 bytes. With too little room, ask for more, and be called again.
  const needed: u32 = <u32>(8 * name.length) + names;
  if (needed > result.capacity) return needed as i32;
  let at: u32 = 0;
  for (let row = 0; row < name.length; row++) {
    const begin = load<u32>(name.offsets + 4 * row);
    const length = load<u32>(name.offsets + 4 * row, 4) - begin;
    store<u32>(result.offsets + 4 * row, at);
    at = append(result.data, at, memory.data<u8>([72, 101, 108, 108, 111, 44, 32]), 7); // Hello,
    at = append(result.data, at, name.data + begin, length);
    at = append(result.data, at, memory.data<u8>([33]), 1); // !
  }
  store<u32>(result.offsets + 4 * name.length, at);
  return 0;
}

function append(to: usize, at: u32, from: usize, length: u32): u32 {
  memory.copy(to + at, from, length);
  return at + length;
}
