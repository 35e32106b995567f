import { Databases } from "../../support/StoreDatabases.ts"
import { deliveryStoreContract, recoveryContract } from "../contract/DeliveryStoreContract.ts"

deliveryStoreContract("SQLite", Databases.layerSqlite, { replicas: false })
recoveryContract("SQLite", Databases.layerSqlite, { replicas: false })
