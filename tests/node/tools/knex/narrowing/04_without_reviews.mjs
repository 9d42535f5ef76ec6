export const up = async knex => {
    await knex.schema.dropTable('review')
    await knex.schema.alterTable('shipment', table => table.dropColumn('address_id'))
    await knex.schema.alterTable('product_tag', table => table.dropColumn('name'))
}
export const down = () => { throw new Error('there is no way back') }
