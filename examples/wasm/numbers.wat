;; A plugin in WebAssembly text, of each kind one export: see docs/wasm.md for the interface.
;;   epochal wasm embed numbers.wat numbers.toml      writes numbers.wasm
;; A column is five words: +0 length, +4 validity, +8 data, +12 offsets, +16 capacity; 20 bytes.
(module $numbers
  (memory (export "memory") 1)
  (func (export "epochal_interface_1"))

  ;; add(a: float64, b: float64) -> float64
  (func $add (export "add") (param $arguments i32) (param $result i32) (result i32)
    (local $left i32) (local $a i32) (local $b i32) (local $sum i32)
    (local.set $left (i32.load (local.get $arguments)))
    (local.set $a (i32.load offset=8 (local.get $arguments)))
    (local.set $b (i32.load offset=28 (local.get $arguments)))
    (local.set $sum (i32.load offset=8 (local.get $result)))
    (block $done
      (loop $row
        (br_if $done (i32.eqz (local.get $left)))
        (f64.store (local.get $sum)
          (f64.add (f64.load (local.get $a)) (f64.load (local.get $b))))
        (local.set $a (i32.add (local.get $a) (i32.const 8)))
        (local.set $b (i32.add (local.get $b) (i32.const 8)))
        (local.set $sum (i32.add (local.get $sum) (i32.const 8)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $row)))
    (i32.const 0))

  ;; same(text: utf8?) -> utf8?: a result may lie where the argument does.
  (func $same (export "same") (param $arguments i32) (param $result i32) (result i32)
    (i64.store (local.get $result) (i64.load (local.get $arguments)))
    (i64.store offset=8 (local.get $result) (i64.load offset=8 (local.get $arguments)))
    (i32.store offset=16 (local.get $result) (i32.load offset=16 (local.get $arguments)))
    (i32.const 0))

  ;; mean(value: float64) -> float64?, state = 16: a sum and a count, both zero at first.
  (func $mean_update (export "mean_update") (param $arguments i32) (param $result i32) (result i32)
    (local $left i32) (local $value i32) (local $state i32)
    (local.set $state (i32.load offset=8 (local.get $arguments)))
    (local.set $left (i32.load offset=20 (local.get $arguments)))
    (local.set $value (i32.load offset=28 (local.get $arguments)))
    (block $done
      (loop $row
        (br_if $done (i32.eqz (local.get $left)))
        (call $count (local.get $state) (f64.load (local.get $value)) (i64.const 1))
        (local.set $value (i32.add (local.get $value) (i32.const 8)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $row)))
    (i32.const 0))
  (func $mean_merge (export "mean_merge") (param $arguments i32) (param $result i32) (result i32)
    (local $other i32)
    (local.set $other (i32.load offset=28 (local.get $arguments)))
    (call $count (i32.load offset=8 (local.get $arguments))
      (f64.load (local.get $other)) (i64.load offset=8 (local.get $other)))
    (i32.const 0))
  (func $mean_evaluate (export "mean_evaluate")
    (param $arguments i32) (param $result i32) (result i32)
    (local $state i32)
    (local.set $state (i32.load offset=8 (local.get $arguments)))
    (if (i64.eqz (i64.load offset=8 (local.get $state)))
      (then ;; no row: null, a zero bit
        (i32.store8 (i32.load offset=4 (local.get $result)) (i32.const 0)))
      (else
        (f64.store (i32.load offset=8 (local.get $result))
          (f64.div (f64.load (local.get $state))
            (f64.convert_i64_s (i64.load offset=8 (local.get $state)))))))
    (i32.const 0))
  (func $count (param $state i32) (param $value f64) (param $rows i64)
    (f64.store (local.get $state) (f64.add (f64.load (local.get $state)) (local.get $value)))
    (i64.store offset=8 (local.get $state)
      (i64.add (i64.load offset=8 (local.get $state)) (local.get $rows))))

  ;; series(stop: int64) -> (n: int64, square: int64), state = 8: the number that comes next.
  (func $series (export "series") (param $arguments i32) (param $result i32) (result i32)
    (local $state i32) (local $n i64) (local $stop i64) (local $room i32) (local $rows i32)
    (local $numbers i32) (local $squares i32)
    (local.set $state (i32.load offset=8 (local.get $arguments)))
    (local.set $n (i64.load (local.get $state)))
    (local.set $stop (i64.load (i32.load offset=28 (local.get $arguments))))
    (local.set $room (i32.load (local.get $result)))
    (local.set $numbers (i32.load offset=8 (local.get $result)))
    (local.set $squares (i32.load offset=28 (local.get $result)))
    (block $done
      (loop $row
        (br_if $done (i32.eq (local.get $rows) (local.get $room)))
        (br_if $done (i64.ge_s (local.get $n) (local.get $stop)))
        (i64.store (local.get $numbers) (local.get $n))
        (i64.store (local.get $squares) (i64.mul (local.get $n) (local.get $n)))
        (local.set $numbers (i32.add (local.get $numbers) (i32.const 8)))
        (local.set $squares (i32.add (local.get $squares) (i32.const 8)))
        (local.set $n (i64.add (local.get $n) (i64.const 1)))
        (local.set $rows (i32.add (local.get $rows) (i32.const 1)))
        (br $row)))
    (i64.store (local.get $state) (local.get $n))
    (i32.store (local.get $result) (local.get $rows))
    (i32.store offset=20 (local.get $result) (local.get $rows))
    (i64.lt_s (local.get $n) (local.get $stop))))
