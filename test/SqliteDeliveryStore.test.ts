import { deliveryStoreContract } from "./DeliveryStoreContract.ts"
import { Databases } from "./StoreDatabases.ts"

deliveryStoreContract("SQLite", Databases.layerSqlite, { replicas: false })
