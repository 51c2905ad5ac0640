-- A small shop, and shop.step(): one random thing that happens in it.

create schema shop;
create type shop.order_state as enum ('new', 'paid', 'shipped', 'returned');

create table shop.customers (
    id bigint generated always as identity primary key,
    name text not null,
    city text,
    since timestamptz not null default now()
);

create table shop.products (
    id int primary key,
    name text not null,
    price numeric(10, 2) not null,
    stock int not null,
    tags text[] not null default '{}'
);

create table shop.orders (
    id bigint generated always as identity primary key,
    customer_id bigint not null references shop.customers on delete cascade,
    state shop.order_state not null default 'new',
    total numeric(10, 2) not null default 0,
    note jsonb,
    ordered timestamptz not null default now()
);

create table shop.order_lines (
    order_id bigint not null references shop.orders on delete cascade,
    product_id int not null references shop.products,
    quantity int not null,
    primary key (order_id, product_id)
);

insert into shop.products (id, name, price, stock, tags) values
    (1, 'Teapot', 24.90, 40, '{kitchen,porcelain}'),
    (2, 'Bicycle bell', 7.50, 120, '{outdoor}'),
    (3, 'Notebook', 3.20, 500, '{paper}'),
    (4, 'Desk lamp', 39.00, 25, '{office,light}'),
    (5, 'Wool blanket', 59.00, 30, '{home,wool}'),
    (6, 'Chess set', 34.50, 15, '{games,wood}');

create function shop.some(list text[]) returns text language sql volatile as
    $$ select list[1 + floor(random() * array_length(list, 1))] $$;

create function shop.new_customer() returns void language sql as $$
    insert into shop.customers (name, city) values (
        shop.some('{Ada,Bela,Chidi,Dana,Emre,Fatou,Grace,Hiro,Ines,Jun,Kofi,Lena}') || ' ' ||
        shop.some('{Adler,Brandt,Costa,Diallo,Endo,Fischer,Garcia,Haddad,Ito,Jansen}'),
        shop.some('{Lisbon,Oslo,Accra,Kyoto,Quito,Graz,NULL}'));
$$;

create function shop.new_order() returns void language plpgsql as $$
declare
    placed bigint;
begin
    insert into shop.orders (customer_id, note)
        select id, case when random() < 0.3 then '{"gift": true, "card": "With love"}'::jsonb end
        from shop.customers order by random() limit 1
        returning id into placed;
    if placed is null then
        return;
    end if;
    insert into shop.order_lines (order_id, product_id, quantity)
        select placed, id, 1 + floor(random() * 3)
        from shop.products order by random() limit 1 + floor(random() * 3)::int;
    update shop.products p set stock = stock - l.quantity
        from shop.order_lines l where l.order_id = placed and l.product_id = p.id;
    update shop.orders set total = (
        select sum(p.price * l.quantity)
        from shop.order_lines l join shop.products p on p.id = l.product_id
        where l.order_id = placed) where id = placed;
end $$;

create function shop.step() returns void language plpgsql as $$
declare
    dice float := random();
begin
    if dice < 0.15 or not exists (select from shop.customers) then
        perform shop.new_customer();
    elsif dice < 0.45 then
        perform shop.new_order();
    elsif dice < 0.75 then
        update shop.orders set state = case state when 'new' then 'paid' when 'paid' then 'shipped'
                else 'returned' end::shop.order_state
            where id = (select id from shop.orders where state <> 'returned'
                        order by random() limit 1);
    elsif dice < 0.85 then
        update shop.products set price = round(price * (0.9 + random() * 0.2)::numeric, 2),
                stock = greatest(stock, 0) + floor(random() * 20)::int
            where id = (select id from shop.products order by random() limit 1);
    elsif dice < 0.93 then
        delete from shop.orders where id = (select id from shop.orders where state = 'returned'
                                            order by random() limit 1);
    elsif (select count(*) from shop.customers) > 50 then
        delete from shop.customers where id = (select min(id) from shop.customers);
    end if;
end $$;

select shop.new_customer() from generate_series(1, 5);
