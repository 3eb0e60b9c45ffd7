/* list.h: intrusive doubly linked list. A node is in one list at most; list_del leaves it self-linked, so that
 * list_is_linked tells, and deleting twice is harmless. */
#ifndef KK_BASE_LIST_H
#define KK_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define LIST_INIT(name) {&(name), &(name)}
#define list_item(node, type, member) ((type *)(void *)((char *)(node) - offsetof(type, member)))

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}
static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}
static inline bool list_is_linked(const struct list *n)
{
    return n->next != NULL && n->next != n;
}
static inline void list_add_tail(struct list *l, struct list *n)
{
    n->next = l;
    n->prev = l->prev;
    l->prev->next = n;
    l->prev = n;
}
static inline void list_add_head(struct list *l, struct list *n)
{
    list_add_tail(l->next, n);
}
static inline void list_del(struct list *n)
{
    if (n->next == NULL)
        return;
    n->next->prev = n->prev;
    n->prev->next = n->next;
    list_init(n);
}
static inline struct list *list_pop(struct list *l)
{
    struct list *n = l->next;
    if (n == l)
        return NULL;
    list_del(n);
    return n;
}

#endif
