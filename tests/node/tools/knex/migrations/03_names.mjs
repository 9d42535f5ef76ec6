export const up = knex => knex.schema.createView('names', view => view.as(knex('customer').select('id', 'name')))
export const down = knex => knex.schema.dropView('names')
