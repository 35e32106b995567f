/** Five ways in which GitHub's deliveries don't arrive, and how each comes to its end. */
import { eventually } from "../../support/eventually.ts"
import type { Delivery } from "../../support/github/Delivery.ts"
import { secret } from "../../support/github/Headers.ts"
import type { World } from "./World.ts"

export interface Death {
  readonly name: string
  /** It comes, the deliveries too, and they fail. */
  readonly begin: (world: World, deliveries: ReadonlyArray<Delivery>) => Promise<void>
  readonly end: (world: World) => Promise<void>
  /** The servers run meanwhile, and may ask GitHub in vain. */
  readonly isAlive: boolean
}

/** Milliseconds: files are followed by content, every few seconds. */
const noticed = 10_000

export const deaths: ReadonlyArray<Death> = [
  {
    name: "not started",
    isAlive: false,
    begin: async (world, deliveries) => {
      await world.stopAll()
      await world.deliver(deliveries)
    },
    end: (world) => world.startAll()
  },
  {
    name: "killed under load",
    isAlive: false,
    begin: async (world, deliveries) => {
      const before = world.app.log.all.length
      const delivering = world.deliver(deliveries)
      await eventually(() => world.app.log.all.length >= before + deliveries.length / 4)
      await world.killAll()
      await delivering
    },
    end: (world) => world.startAll()
  },
  {
    name: "behind a route that refuses connections",
    isAlive: true,
    begin: async ({ deliver, route }, deliveries) => {
      route.isOpen = false
      await deliver(deliveries)
    },
    end: ({ route }) => {
      route.isOpen = true
      return Promise.resolve()
    }
  },
  {
    name: "started with a wrong secret",
    isAlive: true,
    begin: async (world, deliveries) => {
      await world.stopAll()
      world.mountSecret("another App's")
      await world.startAll()
      await world.deliver(deliveries)
    },
    end: async ({ mountSecret, time }) => {
      mountSecret(secret)
      await time.pass(noticed)
    }
  },
  {
    name: "behind a router that answers 503",
    isAlive: true,
    begin: async ({ deliver, route }, deliveries) => {
      route.isUnready = true
      await deliver(deliveries)
    },
    end: ({ route }) => {
      route.isUnready = false
      return Promise.resolve()
    }
  }
]
