;; The plugin `geo` in its third version: the source, which the demonstration assembles.
;;   epochal wasm embed geo.wat geo.toml      writes geo.wasm
;; A column is five words: +0 length, +4 validity, +8 data, +12 offsets, +16 capacity; 20 bytes.
;; Addresses 1024 and 2048 have a stamp each, `3.0.0#7`: its length in a word, then its bytes.
(module $geo
  (memory (export "memory") 1)
  (func (export "epochal_interface_1"))

  ;; Keeps the stamps of this generation and of the `units` that it is linked to.
  (func (export "epochal_init") (param $arguments i32) (param $result i32) (result i32)
    (call $keep (i32.add (local.get $arguments) (i32.const 20)) (i32.const 1024))
    (call $keep (i32.add (local.get $arguments) (i32.const 40)) (i32.const 2048))
    (i32.const 0))

  ;; The first text of a column; one of a KiB or more does not fit.
  (func $keep (param $column i32) (param $at i32)
    (local $length i32)
    (local.set $length (i32.load offset=4 (i32.load offset=12 (local.get $column))))
    (if (i32.gt_u (local.get $length) (i32.const 1020)) (then (unreachable)))
    (i32.store (local.get $at) (local.get $length))
    (memory.copy
      (i32.add (local.get $at) (i32.const 4))
      (i32.load offset=8 (local.get $column))
      (local.get $length)))

  (func (export "version_of") (param $arguments i32) (param $result i32) (result i32)
    (call $stamp (local.get $result) (i32.const 1024)))

  (func (export "units_version_of") (param $arguments i32) (param $result i32) (result i32)
    (call $stamp (local.get $result) (i32.const 2048)))

  ;; Fills a column of texts with a stamp, or returns how much room that takes.
  (func $stamp (param $column i32) (param $stamp i32) (result i32)
    (local $length i32) (local $rows i32) (local $row i32) (local $offsets i32) (local $to i32)
    (local.set $length (i32.load (local.get $stamp)))
    (local.set $rows (i32.load (local.get $column)))
    (local.set $offsets (i32.load offset=12 (local.get $column)))
    (local.set $to (i32.load offset=8 (local.get $column)))
    (if (i32.gt_u
          (i32.mul (local.get $rows) (local.get $length))
          (i32.load offset=16 (local.get $column)))
      (then (return (i32.mul (local.get $rows) (local.get $length)))))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $row) (local.get $rows)))
        (memory.copy
          (local.get $to) (i32.add (local.get $stamp) (i32.const 4)) (local.get $length))
        (local.set $to (i32.add (local.get $to) (local.get $length)))
        (local.set $row (i32.add (local.get $row) (i32.const 1)))
        (i32.store
          (i32.add (local.get $offsets) (i32.mul (local.get $row) (i32.const 4)))
          (i32.mul (local.get $row) (local.get $length)))
        (br $next)))
    (i32.const 0))

  ;; Kilometres in nautical miles, as the second version of `units` has them.
  (func (export "length") (param $arguments i32) (param $result i32) (result i32)
    (local $left i32) (local $from i32) (local $to i32)
    (local.set $left (i32.load (local.get $arguments)))
    (local.set $from (i32.load offset=8 (local.get $arguments)))
    (local.set $to (i32.load offset=8 (local.get $result)))
    (block $done
      (loop $row
        (br_if $done (i32.eqz (local.get $left)))
        (f64.store (local.get $to) (f64.div (f64.load (local.get $from)) (f64.const 1.852)))
        (local.set $from (i32.add (local.get $from) (i32.const 8)))
        (local.set $to (i32.add (local.get $to) (i32.const 8)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $row)))
    (i32.const 0))

  (func (export "distance") (param $arguments i32) (param $result i32) (result i32)
    (local $at i32) (local $end i32)
    (local $lat1 i32) (local $lon1 i32) (local $lat2 i32) (local $lon2 i32) (local $km i32)
    (local.set $end (i32.mul (i32.load (local.get $arguments)) (i32.const 8)))
    (local.set $lat1 (i32.load offset=8 (local.get $arguments)))
    (local.set $lon1 (i32.load offset=28 (local.get $arguments)))
    (local.set $lat2 (i32.load offset=48 (local.get $arguments)))
    (local.set $lon2 (i32.load offset=68 (local.get $arguments)))
    (local.set $km (i32.load offset=8 (local.get $result)))
    (block $done
      (loop $row
        (br_if $done (i32.eq (local.get $at) (local.get $end)))
        (f64.store (i32.add (local.get $km) (local.get $at))
          (call $haversine
            (f64.load (i32.add (local.get $lat1) (local.get $at)))
            (f64.load (i32.add (local.get $lon1) (local.get $at)))
            (f64.load (i32.add (local.get $lat2) (local.get $at)))
            (f64.load (i32.add (local.get $lon2) (local.get $at)))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br $row)))
    (i32.const 0))

  ;; sin²(Δlat/2) + cos lat1 · cos lat2 · sin²(Δlon/2) is the sine, squared, of half the angle.
  (func $haversine
    (param $lat1 f64) (param $lon1 f64) (param $lat2 f64) (param $lon2 f64) (result f64)
    (local $chord f64)
    (local.set $chord
      (f64.add
        (call $half_sine_squared (f64.sub (local.get $lat2) (local.get $lat1)))
        (f64.mul
          (f64.mul (call $cosine (local.get $lat1)) (call $cosine (local.get $lat2)))
          (call $half_sine_squared (f64.sub (local.get $lon2) (local.get $lon1))))))
    (f64.mul
      (f64.const 12742.0176) ;; twice the mean radius of the Earth (IUGG), in km
      (call $arcsine (f64.sqrt (f64.min (local.get $chord) (f64.const 1))))))

  (func $half_sine_squared (param $degrees f64) (result f64)
    (local $sine f64)
    (local.set $sine
      (call $sine (f64.mul (local.get $degrees) (f64.const 0.008726646259971648))))
    (f64.mul (local.get $sine) (local.get $sine)))

  (func $cosine (param $degrees f64) (result f64)
    (call $sine
      (f64.add
        (f64.mul (local.get $degrees) (f64.const 0.017453292519943295))
        (f64.const 1.5707963267948966))))

  ;; Taylor's series, to 4e-14, after half turns are taken off.
  (func $sine (param $x f64) (result f64)
    (local $halves f64) (local $z f64)
    (local.set $halves (f64.nearest (f64.mul (local.get $x) (f64.const 0.3183098861837907))))
    (local.set $x
      (f64.sub (local.get $x) (f64.mul (local.get $halves) (f64.const 3.141592653589793))))
    (if (f64.ne ;; an odd number of half turns
          (f64.mul (f64.nearest (f64.mul (local.get $halves) (f64.const 0.5))) (f64.const 2))
          (local.get $halves))
      (then (local.set $x (f64.neg (local.get $x)))))
    (local.set $z (f64.mul (local.get $x) (local.get $x)))
    f64.const 2.8114572543455206e-15 ;; 1/17!
    (f64.mul (local.get $z))
    (f64.add (f64.const -7.647163731819816e-13)) ;; -1/15!
    (f64.mul (local.get $z))
    (f64.add (f64.const 1.6059043836821613e-10)) ;; 1/13!
    (f64.mul (local.get $z))
    (f64.add (f64.const -2.505210838544172e-08)) ;; -1/11!
    (f64.mul (local.get $z))
    (f64.add (f64.const 2.7557319223985893e-06)) ;; 1/9!
    (f64.mul (local.get $z))
    (f64.add (f64.const -0.0001984126984126984)) ;; -1/7!
    (f64.mul (local.get $z))
    (f64.add (f64.const 0.008333333333333333)) ;; 1/5!
    (f64.mul (local.get $z))
    (f64.add (f64.const -0.16666666666666666)) ;; -1/3!
    (f64.mul (local.get $z))
    (f64.add (f64.const 1))
    (f64.mul (local.get $x)))

  ;; The rational function of Sun's fdlibm (e_asin.c) up to 0.5, and a half angle beyond.
  (func $arcsine (param $x f64) (result f64)
    (if (f64.gt (local.get $x) (f64.const 0.5))
      (then
        (return
          (f64.sub (f64.const 1.5707963267948966)
            (f64.mul (f64.const 2)
              (call $small_arcsine
                (f64.sqrt
                  (f64.mul (f64.sub (f64.const 1) (local.get $x)) (f64.const 0.5)))))))))
    (call $small_arcsine (local.get $x)))

  (func $small_arcsine (param $x f64) (result f64)
    (local $z f64) (local $p f64)
    (local.set $z (f64.mul (local.get $x) (local.get $x)))
    f64.const 3.47933107596021167570e-05
    (f64.mul (local.get $z))
    (f64.add (f64.const 7.91534994289814532176e-04))
    (f64.mul (local.get $z))
    (f64.add (f64.const -4.00555345006794114027e-02))
    (f64.mul (local.get $z))
    (f64.add (f64.const 2.01212532134862925881e-01))
    (f64.mul (local.get $z))
    (f64.add (f64.const -3.25565818622400915405e-01))
    (f64.mul (local.get $z))
    (f64.add (f64.const 1.66666666666666657415e-01))
    (local.set $p (f64.mul (local.get $z)))
    f64.const 7.70381505559019352791e-02
    (f64.mul (local.get $z))
    (f64.add (f64.const -6.88283971605453293030e-01))
    (f64.mul (local.get $z))
    (f64.add (f64.const 2.02094576023350569471))
    (f64.mul (local.get $z))
    (f64.add (f64.const -2.40339491173441421878))
    (f64.mul (local.get $z))
    (f64.add (f64.const 1))
    (local.set $z)
    (f64.mul (f64.div (local.get $p) (local.get $z)) (local.get $x))
    (f64.add (local.get $x))))
