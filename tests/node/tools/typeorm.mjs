// TypeORM on the shop: `node typeorm.mjs COMMAND`. In "narrow" commands a column and a table are gone from the entities.
import {readFileSync} from 'node:fs'
import typeorm from 'typeorm'

const shop = JSON.parse(readFileSync(new URL('shop.json', import.meta.url)))

function entities({narrow = false, view = true} = {}) {
    const made = []
    for (const [table, parents] of Object.entries(shop)) {
        if (narrow && table === 'review') continue
        const columns = {id: {type: 'int', primary: true, generated: true}, name: {type: 'text'}}
        if (table === 'invoice') columns.state = {type: 'enum', enum: ['open', 'paid'], default: 'open'}
        if (narrow && table === 'customer') columns.name.nullable = true
        if (narrow && table === 'shipment') delete columns.name
        const relations = {}
        for (const parent of parents) {
            relations[parent] = {type: 'many-to-one', target: parent, joinColumn: {name: `${parent}_id`}, nullable: true}
        }
        made.push(new typeorm.EntitySchema({name: table, tableName: table, columns, relations, indices: [{columns: ['name']}].filter(() => columns.name)}))
    }
    if (view) {
        const expression = 'SELECT id, name FROM customer'
        made.push(new typeorm.EntitySchema({name: 'names', tableName: 'names', type: 'view', expression, columns: {id: {type: 'int', primary: true}, name: {type: 'text'}}}))
    }
    return made
}

const open = (options, shape) => new typeorm.DataSource({
    type: 'postgres', url: process.env.DATABASE_URL, entities: entities(shape), applicationName: process.env.APP_NAME, ...options,
}).initialize()

const commands = {
    sync: () => open({synchronize: true}),
    'drop-schema': () => open({dropSchema: true}),
    rebuild: () => open({dropSchema: true, synchronize: true}),
    'synchronize-true': async () => { const source = await open(); await source.synchronize(true); return source },
    'drop-database': async () => { const source = await open(); await source.dropDatabase(); return source },
    narrow: () => open({synchronize: true}, {narrow: true}),
    clear: async () => { const source = await open(); await source.getRepository('review').clear(); return source },
    use: async () => {
        const source = await open()
        const customers = source.getRepository('customer')
        const customer = await customers.save({name: 'Ann'})
        await source.transaction(async manager => {
            await manager.getRepository('basket').save({name: 'first', customer})
            await manager.getRepository('basket').update({customer: {id: customer.id}}, {name: 'second'})
        })
        await source.getRepository('basket').delete({customer: {id: customer.id}})
        await source.getRepository('review').find({relations: {customer: true, product: true}, take: 3})
        await customers.remove(customer)
        return source
    },
}

let source
try {
    source = await commands[process.argv[2]]()
    console.log('done')
} catch (error) {
    console.error(`${error.name}: ${error.message}`)
    if (error.driverError) console.error(`code ${error.driverError.code}, detail ${error.driverError.detail}, hint ${error.driverError.hint}`)
    process.exitCode = 1
} finally {
    await source?.destroy()
    if (process.exitCode) process.exit()
}
