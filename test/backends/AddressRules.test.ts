import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as net from "node:net"
import * as os from "node:os"
import { forbiddenAddress, isLocalAddress } from "../../src/backends/AddressRules.ts"

/** The rules over again, in the words of node:net. */
const reference = new net.BlockList()
reference.addSubnet("169.254.0.0", 16)
reference.addSubnet("0.0.0.0", 8)
reference.addAddress("168.63.129.16")
reference.addAddress("100.100.100.200")
reference.addSubnet("fe80::", 10, "ipv6")
reference.addSubnet("fd00:ec2::", 32, "ipv6")
reference.addAddress("192.0.0.192")
for (
  const address of [
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fd00:a9fe:a9fe::1",
    "fd00:100::100:200"
  ]
) reference.addAddress(address, "ipv6")
reference.addAddress("::", "ipv6")

const dotted = (address: number) => [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".")
const hextets = (address: number) => `${(address >>> 16).toString(16)}:${(address & 0xffff).toString(16)}`
const urlHost = (host: string) => new URL(`http://${host}/`).hostname.replace(/^\[(.*)\]$/, "$1")

/** IPv4 addresses of which many are in the ranges or just beside them. */
const near = {
  start: Schema.Literals([
    0,
    0x01000000,
    0x0a000001,
    0x646464c8,
    0x7f000001,
    0xa83f8110,
    0xc00000c0,
    0xa9fe0000,
    0xa9ff0000
  ]),
  offset: Schema.Int.check(Schema.isBetween({ minimum: -3, maximum: 65_539 }))
}
const anywhere = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffffffff }))
const hextet = Schema.Union([
  Schema.Literals([0, 1, 0xce, 0x254, 0xec1, 0xec2, 0xec3]),
  Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff }))
])
const firstHextet = Schema.Union([
  Schema.Literals([0xfe7f, 0xfe80, 0xfebf, 0xfec0, 0xfd00, 0xfd20]),
  // Beside 0, 64 and 2002, under which there are IPv4 addresses.
  Schema.Int.check(Schema.isBetween({ minimum: 0x2003, maximum: 0xffff }))
])

describe("forbiddenAddress", () => {
  it.prop("refuses the IPv4 addresses of the ranges and no others", { ...near, anywhere }, (some) => {
    for (const address of [some.start + some.offset, some.anywhere]) {
      const written = dotted(address)
      assert.strictEqual(forbiddenAddress(written) !== undefined, reference.check(written), written)
    }
  }, { arbitrary: { runs: 500 } })

  it.prop(
    "refuses the IPv6 addresses of the ranges and no others",
    { first: firstHextet, rest: Schema.Tuple([hextet, hextet, hextet, hextet, hextet, hextet, hextet]) },
    ({ first, rest }) => {
      const written = [first, ...rest].map((one) => one.toString(16)).join(":")
      assert.strictEqual(forbiddenAddress(written) !== undefined, reference.check(written, "ipv6"), written)
    },
    { arbitrary: { runs: 500 } }
  )

  it.prop("judges an embedded IPv4 address as that address", { ...near, anywhere }, (some) => {
    for (const address of [(some.start + some.offset) >>> 0, some.anywhere]) {
      const expected = forbiddenAddress(dotted(address))
      for (const prefix of ["::ffff:", "::ffff:0:", "64:ff9b::"]) {
        assert.strictEqual(forbiddenAddress(`${prefix}${dotted(address)}`), expected, `${prefix}${dotted(address)}`)
        assert.strictEqual(forbiddenAddress(`${prefix}${hextets(address)}`), expected, `${prefix}${hextets(address)}`)
      }
      assert.strictEqual(forbiddenAddress(`2002:${hextets(address)}::1`), expected)
      if (address !== 1) assert.strictEqual(forbiddenAddress(`::${hextets(address)}`), expected)
    }
  })

  it.prop("finds a forbidden IPv4 address wherever a site's own NAT64 prefix puts it", { low: hextet }, ({ low }) => {
    const address = 0xa9fe0000 + low
    const [a = "", b = "", c = "", d = ""] = dotted(address).split(".").map((octet) =>
      Number(octet).toString(16).padStart(2, "0")
    )
    for (
      const written of [
        `64:ff9b:1:${a}${b}:00${c}:${d}00::`,
        `64:ff9b:1:77${a}:00${b}:${c}${d}::`,
        `64:ff9b:1:7788:00${a}:${b}${c}:${d}00::`,
        `64:ff9b:1:7788:99aa:bbcc:${a}${b}:${c}${d}`
      ]
    ) assert.strictEqual(forbiddenAddress(written), "link-local", written)
  })

  it.prop("refuses every spelling of an address that a URL takes", { low: hextet }, ({ low }) => {
    const address = 0xa9fe0000 + low
    const octets = dotted(address).split(".").map(Number)
    for (
      const written of [
        String(address),
        `0x${address.toString(16)}`,
        `0${address.toString(8)}`,
        octets.map((octet) => `0${octet.toString(8)}`).join("."),
        octets.map((octet) => `0x${octet.toString(16)}`).join("."),
        `169.254.${low}`,
        `169.${0xfe0000 + low}`,
        `${dotted(address)}.`,
        `[::ffff:${dotted(address)}]`,
        `[::ffff:0:${dotted(address)}]`,
        `[::${dotted(address)}]`,
        `[64:ff9b::${dotted(address)}]`,
        `[2002:${hextets(address)}::]`
      ]
    ) assert.strictEqual(forbiddenAddress(urlHost(written)), "link-local", written)
  })

  it.prop("ignores the zone of an address", {
    interfaceId: hextet,
    zone: Schema.Literals(["eth0", "1", "en%0", "fe80::"])
  }, ({ interfaceId, zone }) => {
    assert.strictEqual(forbiddenAddress(`fe80::${interfaceId.toString(16)}%${zone}`), "link-local")
    assert.strictEqual(forbiddenAddress(`2001:db8::${interfaceId.toString(16)}%${zone}`), undefined)
  })

  it.each([
    ["169.254.169.254", "link-local"],
    ["fe80::1", "link-local"],
    ["febf:ffff::1", "link-local"],
    ["168.63.129.16", "metadata"],
    ["100.100.100.200", "metadata"],
    ["fd00:ec2::254", "metadata"],
    ["fd20:ce::254", "metadata"],
    ["fd00:c1::a9fe:a9fe", "metadata"],
    ["fd00:42::42", "metadata"],
    ["fd00:a9fe:a9fe::1", "metadata"],
    ["fd00:100::100:200", "metadata"],
    ["192.0.0.192", "metadata"],
    ["::ffff:192.0.0.192", "metadata"],
    ["64:ff9b::c000:c0", "metadata"],
    ["64:ff9b:1::192.0.0.192", "metadata"],
    ["64:ff9b::100.100.100.200", "metadata"],
    ["0.0.0.0", "unspecified"],
    ["0.1.2.3", "unspecified"],
    ["::", "unspecified"],
    ["::ffff:0.0.0.0", "unspecified"],
    ["pac.example.com", "unreadable"],
    ["[::1]", "unreadable"],
    ["", "unreadable"]
  ])("calls %s %s", (address, kind) => assert.strictEqual(forbiddenAddress(address), kind))

  it.each([
    "127.0.0.1",
    "::1",
    "10.0.0.1",
    "192.168.1.1",
    "169.253.255.255",
    "169.255.0.0",
    "1.0.0.0",
    "168.63.129.17",
    "100.100.100.201",
    "fec0::1",
    "fd00:ec1:ffff::1",
    "fd00:ec3::1",
    "fd20:ce::253",
    "fd00:c1::a9fe:a9fd",
    "fd00:42::43",
    "192.0.0.193",
    "fd20:ce::1:254",
    "64:ff9b::10.0.0.1",
    "64:ff9b:0:1::a9fe:a9fe",
    "64:ff9b:1::10.0.0.1",
    "64:ff9b:2::a9fe:a9fe",
    "2002:a00:1::1",
    "2003:a9fe:a9fe::1",
    "2001:db8::a9fe:a9fe"
  ])("allows %s", (address) => assert.strictEqual(forbiddenAddress(address), undefined))
})

describe("isLocalAddress", () => {
  it.prop("knows all of loopback", { low: anywhere }, ({ low }) => {
    const address = 0x7f000000 + (low >>> 8)
    for (const written of [dotted(address), `::ffff:${dotted(address)}`, `::${dotted(address)}`]) {
      assert.isTrue(isLocalAddress(written), written)
    }
  })

  it("knows this machine's interfaces", () => {
    const own = Object.values(os.networkInterfaces()).flatMap((all) => all ?? [])
    assert.isNotEmpty(own)
    for (const { address, family } of own) {
      assert.isTrue(isLocalAddress(address), address)
      assert.isTrue(isLocalAddress(family === "IPv4" ? `::ffff:${address}` : `${address}%lo`), address)
    }
  })

  it.each(["192.0.2.1", "198.51.100.7", "2001:db8::1", "::ffff:192.0.2.1", "128.0.0.1", "localhost"])(
    "takes %s for another machine",
    (address) => assert.isFalse(isLocalAddress(address))
  )
})
