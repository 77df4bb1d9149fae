//! Plugin `example`. `python build_example.py` compiles it and puts example.toml into the module.
//! A function gets whole columns: see "Plugins in WebAssembly" in Epochal's docs.

/// A column of Arrow data: an argument, or the room for a result.
const Column = extern struct {
    length: i32, // rows
    validity: ?[*]u8, // a bit for each row, 1 for a value; null: no row is null
    data: [*]u8,
    offsets: [*]i32, // of length + 1 texts; not there for types of a fixed size
    capacity: u32, // bytes at data
};

/// For which version of the interface it is made; never called.
export fn epochal_interface_1() void {}

/// greet(name: utf8) -> utf8
export fn greet(arguments: [*]const Column, result: *Column) i32 {
    const name = arguments[0];
    const rows: usize = @intCast(name.length);
    const names: usize = @intCast(name.offsets[rows]);
    // "Hello, " and "!" are 8 bytes. With too little room, ask for more, and be called again.
    const needed = 8 * rows + names;
    if (needed > result.capacity) return @intCast(needed);
    var at: usize = 0;
    for (0..rows) |row| {
        const begin: usize = @intCast(name.offsets[row]);
        const end: usize = @intCast(name.offsets[row + 1]);
        result.offsets[row] = @intCast(at);
        at = append(result, at, "Hello, ");
        at = append(result, at, name.data[begin..end]);
        at = append(result, at, "!");
    }
    result.offsets[rows] = @intCast(at);
    return 0;
}

fn append(result: *Column, at: usize, text: []const u8) usize {
    for (text, at..) |byte, place| result.data[place] = byte;
    return at + text.len;
}
