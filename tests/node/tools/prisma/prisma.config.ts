import { PrismaPg } from '@prisma/adapter-pg'
import { ColumnTypeEnum } from '@prisma/driver-adapter-utils'
import { defineConfig } from 'prisma/config'

const CHAR = 18
const NAME = 19
const TEXT = 25

/** The schema engine asks for catalogs' columns of the types "char" and name, which the adapter does not know. */
class Adapter extends PrismaPg {
  async connect() {
    const queryable: any = await super.connect()
    const { performIO, queryRaw } = queryable
    let types: number[] = []
    queryable.performIO = async (query: unknown) => {
      const result = await performIO.call(queryable, query)
      types = result.fields.map((field: any) => field.dataTypeID)
      const known = (type: number) => (type === CHAR || type === NAME ? TEXT : type)
      return { ...result, fields: result.fields.map((field: any) => ({ ...field, dataTypeID: known(field.dataTypeID) })) }
    }
    queryable.queryRaw = async (query: unknown) => {
      const result = await queryRaw.call(queryable, query)
      types.forEach((type, column) => { if (type === CHAR) result.columnTypes[column] = ColumnTypeEnum.Character })
      return result
    }
    return queryable
  }
}

export default defineConfig({
  experimental: { adapter: true },
  engine: 'js',
  schema: process.env.SHOP_SCHEMA ?? 'schema.prisma',
  migrations: { path: 'migrations' },
  adapter: async () => new Adapter({ connectionString: process.env.DATABASE_URL }),
})
