import { Databases } from "../../support/StoreDatabases.ts"
import { deliveryStoreContract } from "../contract/DeliveryStoreContract.ts"

deliveryStoreContract("SQLite", Databases.layerSqlite, { replicas: false })
