import {readFileSync} from 'node:fs'

export const shop = JSON.parse(readFileSync(new URL('../shop.json', import.meta.url)))

export function make(knex, names) {
    return names.reduce((schema, name) => schema.createTable(name, table => {
        table.increments('id')
        table.text('name').notNullable().index()
        if (name === 'invoice') table.enu('state', ['open', 'paid'], {useNative: true, enumName: 'invoice_state'}).defaultTo('open')
        for (const parent of shop[name]) table.integer(`${parent}_id`).references('id').inTable(parent)
    }), knex.schema)
}

export function unmake(knex, names) {
    return [...names].reverse().reduce((schema, name) => schema.dropTable(name), knex.schema)
}
