import { join } from "node:path"
import { RuleTester } from "oxlint/plugins-dev"
import { describe, it } from "vitest"
import plugin from "../../lint/Rooms.ts"

RuleTester.describe = describe
RuleTester.it = it

const inSource = (path: string) => join(import.meta.dirname, "../../src", path)

const message = (room: string, from: string) => `${room}/ may not import from ${from}, below it in src/README.md`

const against = (filename: string, code: string, ...words: Parameters<typeof message>) => ({
  filename: inSource(filename),
  code,
  errors: [{ message: message(...words) }]
})

const along = (filename: string, code: string) => ({ filename: inSource(filename), code })

new RuleTester({ languageOptions: { parserOptions: { lang: "ts" } } }).run(
  "the order of the rooms",
  plugin.rules.order,
  {
    valid: [
      along("durable/Backlog.ts", `import { Spray } from "../forwarding/Spray.ts"`),
      along("observability/logs/DeliveryLog.ts", `import type { Delivery } from "../../domain/Delivery.ts"`),
      along("observability/logs/DeliveryLog.ts", `import { reading } from "../metrics/Readings.ts"`),
      along("main.ts", `import { Spray } from "./forwarding/Spray.ts"`),
      along("domain/Body.ts", `import { forwarding } from "forwarding"`),
      along("../test/durable/Backlog.test.ts", `import { Routes } from "../../src/operator/Routes.ts"`)
    ],
    invalid: [
      against(
        "domain/Delivery.ts",
        `import { Log } from "../observability/logs/Logging.ts"`,
        "domain",
        "observability/"
      ),
      against("backends/Registry.ts", `import type { A } from "../store/DeliveryStore.ts"`, "backends", "store/"),
      against("backends/connections/Pool.ts", `export * from "../../durable/A.ts"`, "backends", "durable/"),
      against("http/PlainText.ts", `export { routes } from "../Routes.ts"`, "http", "the files of the process"),
      against("durable/Mode.ts", `const routes = import("../operator/Routes.ts")`, "durable", "operator/"),
      against("domain/Body.ts", `type Lane = import("../forwarding/BackendLane.ts").Lane`, "domain", "forwarding/"),
      {
        filename: inSource("shed/A.ts"),
        code: `import { B } from "../domain/Body.ts"`,
        errors: [{ message: "src/README.md has no room shed/" }]
      }
    ]
  }
)
